// Job queues for Node.js. They stand in bench/peers with packages of their own, which may not be installed.
const of = name => async params => (await import(`../peers/${name}.mjs`)).recorded(params);

export default { bullmq: of("bullmq"), pgBoss: of("pg-boss"), agenda: of("agenda") };
