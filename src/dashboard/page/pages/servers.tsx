import { PageHead } from "../kit/parts";
import { servers as words } from "../texts/servers";

export function Servers() {
  return <PageHead title={words.title} />;
}
