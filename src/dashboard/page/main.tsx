import { render } from "preact";

render(<main>Reliable events</main>, document.getElementById("page") as HTMLElement);
