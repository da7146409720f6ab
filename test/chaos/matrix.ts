import { answerFaults } from "./faults/answers";
import { bulkFaults } from "./faults/bulk";
import { handlerFaults } from "./faults/handlers";
import { calm, messageFaults } from "./faults/messages";
import { networkFaults } from "./faults/network";
import { processFaults } from "./faults/processes";
import { serverFaults } from "./faults/servers";
import type { Fault } from "./run";

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
