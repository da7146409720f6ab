/** Buttons of acts on groups and nodes, each with its dialog; disabled with a reason where they are not allowed. */
export function PauseButton(_: { group: string; pattern?: string }) {
  return null;
}
export function ResumeButton(_: { group: string; pattern?: string }) {
  return null;
}
export function ForgetButton(_: { group: string; pattern?: string }) {
  return null;
}
export function ReplayButton(_: { group: string }) {
  return null;
}
export function SweepButton() {
  return null;
}
