// Here, so that the client is found among the peers' packages.
import pg from "pg";

export { pg };
