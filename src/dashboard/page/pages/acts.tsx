export function Acts() {
  return <h1>Acts</h1>;
}
