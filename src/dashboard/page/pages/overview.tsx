import { PageHead } from "../kit/parts";
import { overview as words } from "../texts/overview";

export function Overview() {
  return <PageHead title={words.title} />;
}
