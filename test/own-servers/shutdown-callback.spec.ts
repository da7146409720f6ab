import { stopsUnderLoad } from "../support/shutdown";

stopsUnderLoad("callback");
