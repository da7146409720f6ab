export type { AccessOf } from "../src/dashboard/access";
export type { Access, Act, EnvironmentBadge, Session } from "../src/dashboard/api";
export type { CommonOptions, GatewayDashboardOptions, OwnPortDashboardOptions } from "../src/dashboard/options";
export type { PayloadOwner, Redact } from "../src/dashboard/payloads";
export { ReliableDashboard } from "./dashboard.mixin";
export { ReliableDashboardService } from "./dashboard.service";
