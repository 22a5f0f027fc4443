//! The nodes that an operator lists through the management API of a load balancer (spec/07 7.2).

use domain::{ApiError, HostPort};
use proto::hybrid::{AddNodeRequest, ListNodesRequest, RemoveNodeRequest};

use super::api_nodes::ApiNodes;

impl ApiNodes {
    /// The listed nodes by address.
    ///
    /// # Errors
    /// `StoreUnavailable` when no API node can be reached in time; what it answers.
    pub async fn listed_nodes(&self) -> Result<Vec<String>, ApiError> {
        let answer = self.call(ListNodesRequest {}, |mut client, request| async move {
            client.list_nodes(request).await
        });
        Ok(answer.await?.addresses)
    }

    /// Lists a node; one that is listed already is no error.
    ///
    /// # Errors
    /// See [`Self::listed_nodes`].
    pub async fn add_listed_node(&self, address: &HostPort) -> Result<(), ApiError> {
        let request = AddNodeRequest {
            address: address.to_string(),
        };
        let answer = self.call(request, |mut client, request| async move {
            client.add_node(request).await
        });
        answer.await.map(drop)
    }

    /// Takes a node off the list; one that is not on it is no error.
    ///
    /// # Errors
    /// See [`Self::listed_nodes`].
    pub async fn remove_listed_node(&self, address: &HostPort) -> Result<(), ApiError> {
        let request = RemoveNodeRequest {
            address: address.to_string(),
        };
        let answer = self.call(request, |mut client, request| async move {
            client.remove_node(request).await
        });
        answer.await.map(drop)
    }
}
