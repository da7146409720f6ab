import { PageHead } from "../kit/parts";
import { groups as words } from "../texts/groups";

export function Groups() {
  return <PageHead title={words.title} />;
}
