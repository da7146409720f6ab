import { zone } from "./kit/format";
import { session } from "./kit/session";
import { shell } from "./texts/shell";

/** Who has told all this, and in which time. */
export function Footer() {
  const known = session.value;
  if (!known) return null;
  return (
    <footer class="bottom muted note">
      <bdi>{shell.servedBy(known.nodeID, known.version)}</bdi> {shell.times(zone(new Date().getTimezoneOffset()))}
    </footer>
  );
}
