//! Faults that change the roster take place: which servers clients reach, and what the lock cluster agrees on.

use std::sync::Arc;
use std::time::Duration;

use quorlock::node::NodeStatus;
use quorlock::{Mutex, Redlock, RedlockBuilder};

use super::*;
use crate::faults::Interruption;
use crate::redis::{Client, Connection, cmd};

const SIDES: [usize; 2] = [0, 1];
const MAX_TTL: Duration = Duration::from_secs(1);

/// A lock cluster of three nodes, and its clients, one on each side of the network.
struct World {
    nodes: Nodes,
    clients: [Redlock; 2],
}

async fn world() -> World {
    let nodes = Nodes::start(3, &Setup::new(), Vec::new()).expect("servers");
    nodes.start_blank(1).expect("a server");
    builder(&nodes, 0).initialize().await.expect("all nodes are up");
    let [even, odd] = SIDES.map(|side| builder(&nodes, side).dedicated_thread(true).connect());
    let clients = [even.await.expect("all nodes are up"), odd.await.expect("all nodes are up")];
    World { nodes, clients }
}

fn builder(nodes: &Nodes, side: usize) -> RedlockBuilder {
    Redlock::builder().nodes(nodes.urls(side)).node_names(nodes.names()).max_ttl(MAX_TTL)
}

fn mutex(client: &Redlock) -> Mutex {
    client.mutex("k").ttl(MAX_TTL).wait_timeout(Duration::from_secs(10))
}

impl World {
    /// Waits until this client's view of node 0 is as expected. Returns the number of its roster.
    async fn node_0_becomes(&self, side: usize, is_expected: impl Fn(&NodeStatus) -> bool) -> Arc<str> {
        for _ in 0..500 {
            let node = self.clients[side].node_status().await.swap_remove(0);
            if let Some(seat) = node.seat.as_ref().filter(|_| is_expected(&node)) {
                return Arc::clone(&seat.epoch);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", self.clients[side].node_status().await);
    }

    fn connect(&self, side: usize) -> Connection {
        let client = Client::open(self.nodes.urls(side)[0].as_str()).expect("a URL");
        client.get_connection().expect("a connection")
    }
}

/// The server process at the other end.
fn process(connection: &mut Connection) -> Option<String> {
    let info: String = cmd("INFO").arg("server").query(connection).ok()?;
    info.lines().find_map(|line| line.strip_prefix("process_id:")).map(str::to_owned)
}

fn process_of(server: &Server) -> Option<String> {
    server.pid().map(|pid| pid.to_string())
}

/// Each roster has a larger number than the one before: recoveries, then changes.
fn number(epoch: &str) -> (u64, u64) {
    let (recovery, change) = epoch.split_once('.').expect("two numbers");
    (recovery.parse().expect("a number"), change.parse().expect("a number"))
}

fn votes(node: &NodeStatus) -> bool {
    node.is_voting()
}

#[tokio::test]
async fn an_address_move_leads_new_connections_to_a_blank_server_and_keeps_old_ones() {
    let world = world().await;
    let injection = Injection::AddressMove { reset_side: 0 };
    let before = number(&world.node_0_becomes(1, votes).await);
    let held = mutex(&world.clients[1]).acquire().await.expect("free");
    let mut old = SIDES.map(|side| world.connect(side));
    let earlier_server = process(&mut old[1]);
    assert_eq!(process(&mut old[0]), earlier_server);

    let mut prepared = world.nodes.prepare(0, injection).expect("a blank server");
    let Prepared::Blank(blank) = &prepared else { panic!("a server to which the address moves") };
    let blank_server = process_of(blank);
    assert!(blank_server.is_some() && blank_server != earlier_server);
    assert_eq!(blank.command::<i64>(&["DBSIZE"]).expect("a reply"), 0);
    world.nodes.begin(0, injection, Duration::ZERO, &mut prepared).expect("moved");
    assert_eq!(process(&mut old[1]), earlier_server, "an old connection lives on");
    assert_eq!(process(&mut old[0]), None, "those of the other side are reset");
    for side in SIDES {
        assert_eq!(process(&mut world.connect(side)), blank_server);
    }
    assert_eq!(world.nodes.with_server(0, process_of), blank_server);

    // The blank server becomes a member, in place of the one that still has the data.
    let after = number(&world.node_0_becomes(0, votes).await);
    assert!(after > before, "{before:?}, {after:?}");
    let has_marker = |server: &Server| server.command::<bool>(&["EXISTS", "quorlock:node"]).expect("a reply");
    assert!(world.nodes.with_server(0, has_marker));
    let Prepared::Blank(earlier) = &prepared else { panic!("the server from which the address moved") };
    assert!(has_marker(earlier));
    assert!(held.is_valid(), "it is renewed meanwhile");

    world.nodes.end(0, injection, prepared).expect("shut down");
    assert_eq!(process(&mut old[1]), None, "the earlier server is shut down");
    let number = held.fencing_token().expect("fenced").number;
    assert!(held.release().await.expect("held until then").confirmed);
    let next = mutex(&world.clients[0]).acquire().await.expect("free");
    assert!(next.fencing_token().expect("fenced").number > number);
}

#[tokio::test]
async fn a_reconfiguration_exchanges_the_node_and_exchanges_it_back() {
    let world = world().await;
    let interruption = Some(Interruption { after: Duration::from_millis(300), is_return: true });
    let injection = Injection::Reconfiguration { interruption };
    let before = number(&world.node_0_becomes(0, votes).await);
    let held = mutex(&world.clients[1]).acquire().await.expect("free");

    let mut prepared = world.nodes.prepare(0, injection).expect("a blank server");
    world.nodes.begin(0, injection, Duration::ZERO, &mut prepared).expect("exchanged");
    let Prepared::Blank(other) = &prepared else { panic!("a server that has the seat now") };
    assert!(other.command::<bool>(&["EXISTS", "quorlock:node"]).expect("a reply"));
    let between = number(&world.node_0_becomes(1, |node| !votes(node)).await);
    assert!(between > before, "{before:?}, {between:?}");
    assert!(held.is_valid(), "the other nodes are a quorum");
    assert!(held.release().await.expect("held until then").confirmed);
    let held = mutex(&world.clients[0]).acquire().await.expect("free");

    world.nodes.end(0, injection, prepared).expect("exchanged back");
    let after = number(&world.node_0_becomes(1, votes).await);
    assert!(after > between, "{between:?}, {after:?}");
    assert!(held.is_valid(), "it is renewed meanwhile");
    assert!(held.release().await.expect("held until then").confirmed);
}
