/** Of production. The tests neither change it nor connect to any of these. */
module.exports = {
  amqp: process.env.AMQP_URL ?? "amqp://rabbitmq.shop:5672",
  mongo: process.env.MONGO_URL ?? "mongodb://mongo.shop:27017/?replicaSet=rs0",
  redis: process.env.REDIS_URL ?? "redis://redis.shop:6379"
};
