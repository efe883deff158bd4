//! ACLs and client quotas. The cases about ACLs come in two kinds: for a cluster without an authorizer, and for one
//! that has Kafka's StandardAuthorizer and lets everybody do everything (`super.users`).

use crate::harness::{ClusterUnderTest, eventually, unique};
use kbr::kafka::{
    AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType, Acls, ClientQuota,
    Error, QuotaEntity,
};
use std::collections::BTreeMap;

fn binding(resource_name: &str) -> AclBinding {
    AclBinding {
        resource_type: AclResourceType::TOPIC,
        resource_name: resource_name.to_string(),
        pattern_type: AclPatternType::LITERAL,
        principal: "User:alice".to_string(),
        host: "*".to_string(),
        operation: AclOperation::READ,
        permission: AclPermission::ALLOW,
    }
}

fn code<T>(result: &Result<T, Error>) -> i16 {
    match result {
        Ok(_) => 0,
        Err(Error::Broker { code, .. }) => code.0,
        Err(other) => panic!("{other}"),
    }
}

/// The ACLs of the cluster that this case has made: their resources have the name in theirs.
async fn own(cluster: &ClusterUnderTest, name: &str) -> Vec<AclBinding> {
    match cluster.client.acls().await.unwrap() {
        Acls::Bindings(all) => all
            .into_iter()
            .filter(|acl| acl.resource_name.contains(name) || acl.principal.contains(name))
            .collect(),
        Acls::NoAuthorizer => panic!("there is no authorizer"),
    }
}

pub async fn without_an_authorizer_acls_answer_54(cluster: &ClusterUnderTest) {
    assert_eq!(cluster.client.acls().await.unwrap(), Acls::NoAuthorizer);
    let created = cluster.client.create_acls(&[binding("orders")]).await;
    assert_eq!(code(&created.unwrap()[0]), 54);
    let deleted = cluster.client.delete_acls(&[binding("orders")]).await;
    assert_eq!(code(&deleted.unwrap()[0]), 54);
}

pub async fn acls_come_back_as_they_were_made(cluster: &ClusterUnderTest) {
    let name = unique("orders");
    let prefixed = AclBinding {
        pattern_type: AclPatternType::PREFIXED,
        host: "10.0.0.7".to_string(),
        operation: AclOperation::DESCRIBE_CONFIGS,
        permission: AclPermission::DENY,
        ..binding(&name)
    };
    let group = AclBinding {
        resource_type: AclResourceType::GROUP,
        ..binding(&name)
    };
    let whole_cluster = AclBinding {
        resource_type: AclResourceType::CLUSTER,
        resource_name: "kafka-cluster".to_string(),
        operation: AclOperation::CLUSTER_ACTION,
        principal: format!("User:{name}"),
        ..binding("")
    };
    let transactional = AclBinding {
        resource_type: AclResourceType::TRANSACTIONAL_ID,
        operation: AclOperation::WRITE,
        ..binding(&name)
    };
    let all_topics = AclBinding {
        resource_name: "*".to_string(),
        principal: format!("User:{name}"),
        ..binding("")
    };
    let mut wanted = vec![
        all_topics,
        binding(&name),
        prefixed,
        group,
        whole_cluster,
        transactional,
    ];
    let created = cluster.client.create_acls(&wanted).await.unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    // Again: they are there already.
    let again = cluster.client.create_acls(&wanted[..1]).await.unwrap();
    assert!(again[0].is_ok(), "{again:?}");
    wanted.sort();
    eventually("the new ACLs", || async {
        (own(cluster, &name).await == wanted).then_some(())
    })
    .await;

    let deleted = cluster.client.delete_acls(&wanted[..2]).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    eventually("two ACLs are gone", || async {
        (own(cluster, &name).await == wanted[2..]).then_some(())
    })
    .await;
    // One that is not there is no error.
    let missing = cluster.client.delete_acls(&wanted[..1]).await.unwrap();
    assert!(missing[0].is_ok(), "{missing:?}");
}

pub async fn impossible_acls_are_refused(cluster: &ClusterUnderTest) {
    let name = unique("orders");
    let wrong = [
        AclBinding {
            operation: AclOperation::ANY,
            ..binding(&name)
        },
        AclBinding {
            permission: AclPermission::ANY,
            ..binding(&name)
        },
        AclBinding {
            pattern_type: AclPatternType::MATCH,
            ..binding(&name)
        },
        AclBinding {
            principal: "alice".to_string(),
            ..binding(&name)
        },
        AclBinding {
            resource_type: AclResourceType::CLUSTER,
            ..binding(&name)
        },
    ];
    let codes: Vec<i16> = {
        let mut codes = Vec::new();
        // One by one: a broker may refuse all of a request for one of them.
        for acl in &wrong {
            let created = cluster.client.create_acls(std::slice::from_ref(acl)).await;
            codes.push(code(&created.unwrap()[0]));
        }
        codes
    };
    // Wild cards break the broker's own check of the request, which it does not own up to.
    assert_eq!(codes, [-1, -1, -1, 42, 42]);
    assert_eq!(own(cluster, &name).await, []);
}

fn entity(parts: &[(&str, Option<&str>)]) -> QuotaEntity {
    let parts = parts.iter();
    QuotaEntity(
        parts
            .map(|(kind, name)| (kind.to_string(), name.map(str::to_string)))
            .collect(),
    )
}

fn values(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
    of.iter()
        .map(|(name, value)| (name.to_string(), *value))
        .collect()
}

/// The quotas of the entities that this case has made, or of the default ones that only it makes.
async fn quotas(cluster: &ClusterUnderTest, name: &str) -> Vec<ClientQuota> {
    let all = cluster.client.client_quotas().await.unwrap();
    all.into_iter()
        .filter(|quota| quota.entity.to_string().contains(name))
        .collect()
}

pub async fn client_quotas_come_back_as_they_were_set(cluster: &ClusterUnderTest) {
    let name = unique("alice");
    let user = entity(&[("user", Some(&name))]);
    let both = entity(&[("user", Some(&name)), ("client-id", None)]);
    let rates = values(&[
        ("producer_byte_rate", 1048576.0),
        ("request_percentage", 12.5),
    ]);
    let one = values(&[("consumer_byte_rate", 2048.0)]);
    let client = &cluster.client;
    client
        .alter_client_quotas(&user, &rates, &[])
        .await
        .unwrap();
    client.alter_client_quotas(&both, &one, &[]).await.unwrap();
    let quota = |entity: &QuotaEntity, values: &BTreeMap<String, f64>| ClientQuota {
        entity: entity.clone(),
        values: values.clone(),
    };
    eventually("the new quotas", || async {
        let found = quotas(cluster, &name).await;
        (found == [quota(&both, &one), quota(&user, &rates)]).then_some(())
    })
    .await;

    let remove = ["request_percentage".to_string()];
    let more = values(&[("producer_byte_rate", 512.0)]);
    client
        .alter_client_quotas(&user, &more, &remove)
        .await
        .unwrap();
    let remove = ["consumer_byte_rate".to_string()];
    let none = BTreeMap::new();
    client
        .alter_client_quotas(&both, &none, &remove)
        .await
        .unwrap();
    eventually("an entity without quotas is gone", || async {
        (quotas(cluster, &name).await == [quota(&user, &more)]).then_some(())
    })
    .await;
    let remove = ["producer_byte_rate".to_string()];
    client
        .alter_client_quotas(&user, &none, &remove)
        .await
        .unwrap();
}

pub async fn impossible_client_quotas_answer_42(cluster: &ClusterUnderTest) {
    let name = unique("alice");
    let user = entity(&[("user", Some(&name))]);
    for (entity, key, value) in [
        (&user, "no_such_quota", 1.0),
        (&user, "producer_byte_rate", 0.5),
        (&user, "connection_creation_rate", 5.0),
        (
            &entity(&[("ip", Some("127.0.0.1"))]),
            "producer_byte_rate",
            5.0,
        ),
        (&entity(&[]), "producer_byte_rate", 5.0),
        (&entity(&[("team", Some(&name))]), "producer_byte_rate", 5.0),
    ] {
        let set = values(&[(key, value)]);
        let altered = cluster.client.alter_client_quotas(entity, &set, &[]).await;
        assert_eq!(code(&altered), 42, "{entity} {key} {value}");
    }
    assert_eq!(quotas(cluster, &name).await, []);
}

pub async fn a_cluster_without_scram_users_lists_none(cluster: &ClusterUnderTest) {
    let users = cluster.client.scram_users().await.unwrap();
    assert_eq!(users, Vec::<String>::new());
}
