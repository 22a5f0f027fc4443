//! Durable calls on a cluster with PostgreSQL and RabbitMQ: each promise has its test, and all of them
//! together the chaos.

mod chaos;
