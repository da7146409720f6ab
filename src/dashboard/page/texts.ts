/** All texts of the page. */
export { groups } from "./texts/groups";
export { kit } from "./texts/kit";
export { overview } from "./texts/overview";
export { servers } from "./texts/servers";
export { shell } from "./texts/shell";
