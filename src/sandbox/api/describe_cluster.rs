//! DescribeCluster: v0–v2, for brokers.

use super::{Api, Context, text};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

impl Api for DescribeClusterRequest {
    async fn serve(self, cx: &Context<'_>) -> DescribeClusterResponse {
        let state = cx.cluster.state();
        let brokers = state
            .brokers
            .iter()
            .filter(|(_, broker)| broker.alive)
            .map(|(id, broker)| {
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(*id))
                    .with_host(text("127.0.0.1"))
                    .with_port(i32::from(broker.port))
            })
            .collect();
        DescribeClusterResponse::default()
            .with_cluster_id(text(&cx.cluster.cluster_id))
            .with_controller_id(BrokerId(state.controller()))
            .with_brokers(brokers)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeClusterResponse {
        DescribeClusterResponse::default().with_error_code(code)
    }
}
