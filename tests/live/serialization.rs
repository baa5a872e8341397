//! The JSON of statuses, inspections, replies and outcomes of real nodes: all names are in snake case.

use serde_json::{Value, json, to_value};

use crate::support::{client, eventually, fenced, nodes_with_key, plain, secs};

fn json_of<T: serde::Serialize>(value: &T) -> Value {
    to_value(value).expect("serializable")
}

#[tokio::test]
async fn the_json_of_a_held_and_released_lock_names_replies_in_snake_case() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(secs(60)).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 3 }).await;
        let seen = redlock.inspect("k").await.expect("a reply");
        let holder = seen.holder().expect("held");
        let (inspection, owner) = (json_of(&seen), guard.owner_hash().to_string());
        assert_eq!((&inspection["quorum"], &json_of(&holder)["owner"]), (&json!(2), &json!(owner)));
        for (node, url) in inspection["nodes"].as_array().expect("a list").iter().zip(cluster.urls()) {
            assert!(url.ends_with(node["node"].as_str().expect("a text")), "{node}");
            let reply = &node["reply"]["inspected"];
            assert_eq!(reply["holder"], json!({ "owner": owner }), "{node}");
            assert!(
                reply["remaining_ms"].as_u64().is_some_and(|left| (50_000..=60_000).contains(&left)),
                "{node}"
            );
            assert_eq!((&node["is_ours"], &node["is_voting"]), (&json!(true), &json!(true)));
        }

        let outcome = json_of(&guard.release().await.expect("held until then"));
        assert_eq!(outcome["confirmed"], json!(true), "{outcome}");
        let replies = outcome["replies"].as_array().expect("a list");
        let granted =
            replies.iter().filter(|reply| reply["reply"] == json!({ "granted": { "fence": null } })).count();
        assert!(replies.len() == 3 && granted >= 2, "{outcome}");
        eventually("every node has released it", || async { nodes_with_key(&cluster, "k") == 0 }).await;
        let replies = json_of(&redlock.force_release("k").await.expect("a reply"));
        assert!(
            replies.as_array().expect("a list").iter().all(|reply| reply["reply"] == "not_held"),
            "{replies}"
        );
        let seen = json_of(&redlock.inspect("k").await.expect("a reply"));
        let unheld = json!({ "inspected": { "holder": "unheld", "remaining_ms": null } });
        assert_eq!(seen["nodes"][0]["reply"], unheld, "{seen}");

        let status = json_of(&redlock.node_status().await);
        for node in status.as_array().expect("a list") {
            assert_eq!(node["state"], json!("up"), "{node}");
            let name = node["server"]["name"].as_str().unwrap_or_default();
            assert!(["Redis", "Valkey"].contains(&name), "{node}");
            assert_eq!(node["persistence"], json!("append_only_file"), "{node}");
        }
    }
}
