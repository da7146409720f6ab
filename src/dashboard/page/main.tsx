import { render } from "preact";
import { App } from "./app";
import { followAddress } from "./kit/route";
import { readSession } from "./kit/session";

followAddress();
void readSession();
render(<App />, document.getElementById("page") as HTMLElement);
