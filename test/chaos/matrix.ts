import { answerFaults } from "./faults/answers";
import { bulkFaults } from "./faults/bulk";
import { clusterFaults } from "./faults/cluster";
import { handlerFaults } from "./faults/handlers";
import { hourFault } from "./faults/hour";
import { majorityFaults } from "./faults/majority";
import { calm, messageFaults } from "./faults/messages";
import { networkFaults } from "./faults/network";
import { processFaults } from "./faults/processes";
import { sentinelFaults } from "./faults/sentinel";
import { serverFaults } from "./faults/servers";
import type { Fault } from "./run";

/** Of three RabbitMQ nodes, Redis behind Sentinels and a store that is a replica set: `--cluster`. */
export const CLUSTER_FAULTS: Fault[] = [...clusterFaults, ...sentinelFaults, ...majorityFaults, hourFault];

/** Each run has both strategies, and groups with the inbox off, on and transactional: the fault hits them all. */
export const FAULTS: Fault[] = [
  calm,
  ...processFaults,
  ...bulkFaults,
  ...handlerFaults,
  ...serverFaults,
  ...answerFaults,
  ...networkFaults,
  ...messageFaults
];
