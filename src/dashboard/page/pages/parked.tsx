export function Parked() {
  return <h1>Parked</h1>;
}
