import { render } from "preact";
import { App } from "./app";
import { followAddress } from "./kit/route";
import { followSession } from "./kit/session";

followAddress();
followSession();
render(<App />, document.getElementById("page") as HTMLElement);
