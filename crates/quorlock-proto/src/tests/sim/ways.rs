//! The ways between clients and nodes: each connection keeps its order, together they have none.

use std::collections::VecDeque;

use super::engine::{Deed, Sim, Stage, tell};
use super::parts::{Conn, Message, Site, ToClient, Way};
use super::plan::Slip;
use crate::quorum::NodeId;
use crate::request::RequestKind;
use crate::test_util::node::{Reply, ScriptMutant, SentRequest};
use crate::vote::{ExclusionReason, ReplyFailure as Failing, Vote};

impl Sim<'_> {
    pub(super) fn dial(&mut self, who: usize, node: usize, life: u32) {
        let deed = Deed::Dial { who, node, life };
        if !self.is_here(who, life, deed) || self.peers[who].wires[node].is_some() {
            return;
        }
        self.peers[who].wires[node] = Some(self.conns.len());
        self.conns.push(Conn {
            who,
            life,
            node,
            run: 0,
            state: Way::Dialing,
            to_node: VecDeque::new(),
            to_client: VecDeque::new(),
            out_clear: self.nanos,
            in_clear: self.nanos,
            asked: self.now(who),
            looked_while_evicting: false,
        });
        let patience = self.plan.limits.redial_after.as_nanos() as u64;
        self.after(patience, Deed::GiveUp(self.conns.len() - 1));
        self.send(self.conns.len() - 1, Message::Hello);
    }

    pub(super) fn send(&mut self, place: usize, message: Message) {
        let way = self.way();
        let conn = &mut self.conns[place];
        if conn.state == Way::Cut {
            return;
        }
        let opens = self.peers[conn.who].no_way_out[conn.node];
        let at = (self.nanos + way).max(conn.out_clear).max(opens);
        conn.out_clear = at;
        conn.to_node.push_back(message);
        self.note_way(place, at);
        self.at(at, Deed::Arrive(place));
    }

    pub(super) fn answer(&mut self, place: usize, reply: ToClient) {
        let way = self.way();
        let conn = &mut self.conns[place];
        let opens = self.peers[conn.who].no_way_in[conn.node];
        let at = (self.nanos + way).max(conn.in_clear).max(opens);
        conn.in_clear = at;
        conn.to_client.push_back(reply);
        self.note_way(place, at);
        self.at(at, Deed::Hear(place));
    }

    /// How long a message is under way.
    pub(super) fn way(&mut self) -> u64 {
        if self.stage == Stage::Storm && self.plan.long_ways > 0 && self.chance.permille(self.plan.long_ways)
        {
            let longest = 3 * self.plan.longest_nanos();
            return self.chance.of_any_size(self.plan.way, longest);
        }
        self.plan.way / 2 + self.chance.below(self.plan.way)
    }

    pub(super) fn arrive(&mut self, place: usize) {
        let conn = &self.conns[place];
        let (node, who) = (conn.node, conn.who);
        let site = &self.sites[node];
        if site.frozen_until > self.nanos {
            self.at(site.frozen_until, Deed::Arrive(place));
            return;
        }
        let (run, is_down, evicts) = (site.run, site.is_down, site.node.evicts);
        let conn = &mut self.conns[place];
        let Some(message) = conn.to_node.pop_front() else { return };
        let is_ghost = conn.state == Way::Cut;
        let is_look =
            matches!(&message, Message::Command(command) if command.request.kind == RequestKind::ReadMarker);
        if (is_look || matches!(message, Message::Hello)) && !is_down {
            let peer = &self.peers[who];
            // Who looks again has heard what the first look told, and said what there was to say to that.
            let is_second = conn.looked_while_evicting && !is_ghost && peer.is_fenced && !peer.is_stranger;
            self.sites[node].eviction_was_recorded |= evicts && is_second;
            conn.looked_while_evicting = evicts;
            // From then on it is on probation for that.
            let is_reported = matches!(&message, Message::Command(command) if command.write.is_some());
            self.sites[node].eviction_was_recorded &= evicts || !is_reported;
        }
        match message {
            Message::Hello if is_ghost => {}
            Message::Hello if is_down => self.answer(place, ToClient::NotListening),
            Message::Hello => {
                conn.run = run;
                let site = &mut self.sites[node];
                site.node.load_scripts();
                let reading = site.node.read_marker(None, self.nanos);
                let reply = if site.is_replica { ToClient::Replica } else { ToClient::Met(reading) };
                self.answer(place, reply);
            }
            // Bytes for a process that has ended go nowhere.
            Message::Command(_) if is_down || conn.run != run => {}
            Message::Command(command) => {
                self.tally.ghosts += u64::from(is_ghost);
                let answer = self.execute(node, who, &command, is_ghost);
                if !is_ghost {
                    self.answer(place, ToClient::Reply(answer));
                } else if self.profile.slip == Some(Slip::Desync) {
                    self.answer_on_the_next(who, node, answer);
                }
            }
        }
    }

    /// The mistake: an answer of the broken connection is taken for one of the connection that came after.
    fn answer_on_the_next(&mut self, who: usize, node: usize, answer: Reply) {
        if let Some(next) = self.peers[who].wires[node]
            && self.conns[next].state == Way::Up
        {
            self.answer(next, ToClient::Reply(answer));
        }
    }

    fn execute(&mut self, node: usize, who: usize, command: &SentRequest, is_ghost: bool) -> Reply {
        let Site { is_replica, errors, .. } = self.sites[node];
        let request = &command.request;
        let refusal = if is_replica {
            Some("READONLY")
        } else if errors > 0 && self.chance.permille(errors) {
            Some("BUSY")
        } else {
            None
        };
        if let Some(words) = refusal {
            let failing = Vote::Unknown(Failing::TransientError(words.into()));
            tell!(self, "node {node} answers client {who}'s {:?} with {words}", request.kind);
            return match request.kind {
                RequestKind::ReadMarker => Reply::Marker(Err(failing)),
                _ => Reply::Vote(failing, None),
            };
        }
        let before = self.before(node, request);
        let answer = match request.kind {
            RequestKind::Enqueue | RequestKind::Dequeue => {
                Reply::Vote(self.queue_at(node, who, request), None)
            }
            _ => self.sites[node].node.run(command, self.nanos),
        };
        let calls = match &answer {
            Reply::Vote(Vote::Granted, _) => true,
            Reply::Vote(Vote::NotHeld | Vote::HeldByOther { .. }, _) => {
                self.sites[node].node.mutant != Some(ScriptMutant::NotifiesForOwnKeyOnly)
            }
            _ => false,
        };
        if request.kind == RequestKind::ReleaseAndNotify && calls {
            self.hand_over_at(node, who, &request.key);
        }
        if self.story.is_some() {
            let late = if is_ghost { ", late" } else { "" };
            let told = match &answer {
                Reply::Vote(vote, _) => format!("{vote}"),
                Reply::Marker(Ok(reading)) => format!("{:?}", reading.marker),
                Reply::Marker(Err(failing)) => format!("{failing}"),
            };
            let whose = self.oracle.of(request.token).map_or(String::new(), |id| format!(" for lock {id}"));
            tell!(self, "node {node} runs client {who}'s {:?}{whose}{late}: {told}", request.kind);
        }
        self.note(node, who, command, &answer, before);
        answer
    }

    pub(super) fn hear(&mut self, place: usize) {
        let conn = &self.conns[place];
        let (who, node, life) = (conn.who, conn.node, conn.life);
        if conn.state == Way::Cut || !self.is_here(who, life, Deed::Hear(place)) {
            return;
        }
        let (now, id) = (self.now(who), NodeId(node as u8));
        let conn = &mut self.conns[place];
        let Some(reply) = conn.to_client.pop_front() else { return };
        let peer = &mut self.peers[who];
        match reply {
            ToClient::Met(reading) => {
                conn.state = Way::Up;
                let asked = conn.asked;
                peer.trouble_until[node] = peer.trouble_until[node].max(self.nanos);
                if peer.is_fenced {
                    peer.coordinator.on_handshake(id, reading, asked, now);
                }
                peer.coordinator.on_up(id, now);
                tell!(self, "client {who} is connected to node {node}");
            }
            ToClient::Replica => {
                self.drop_wire(who, node);
                self.peers[who].coordinator.on_excluded(id, ExclusionReason::Replica, now);
            }
            ToClient::NotListening => {
                self.drop_wire(who, node);
                self.peers[who].coordinator.on_down(id, "not listening".into(), now);
            }
            ToClient::Call { key, has_others, is_found } => {
                self.be_called(who, node, key, (has_others, is_found));
            }
            ToClient::Reply(Reply::Marker(reading)) => {
                let is_stale = matches!(&reading, Err(Vote::Unknown(Failing::TransientError(words))) if &**words == "READONLY");
                peer.coordinator.on_marker_reading(id, reading, now);
                if is_stale {
                    self.act(who);
                    self.hang_up(who, node, "a replica");
                }
            }
            ToClient::Reply(Reply::Vote(vote, clock)) => self.hear_vote(who, node, vote, clock),
        }
        self.act(who);
    }

    fn hear_vote(&mut self, who: usize, node: usize, vote: Vote, clock: Option<u64>) {
        let (now, id) = (self.now(who), NodeId(node as u8));
        let coordinator = &mut self.peers[who].coordinator;
        let vote = match vote {
            Vote::Unknown(Failing::TransientError(_)) if self.profile.slip == Some(Slip::ErrorIsVote) => {
                let is_numbered = coordinator.next_reply_kind(id) == Some(RequestKind::Acquire)
                    && coordinator.expected_marker(id).is_some();
                let micros = now.wall_nanos() / 1000;
                if is_numbered { Vote::Fenced(micros) } else { Vote::Granted }
            }
            vote => vote,
        };
        let is_stale =
            matches!(&vote, Vote::Unknown(Failing::TransientError(words)) if &**words == "READONLY");
        if let Some(micros) = clock {
            coordinator.on_node_time(id, micros, now);
        }
        coordinator.on_reply(id, vote, now);
        if is_stale {
            self.act(who);
            self.hang_up(who, node, "a replica");
        }
    }

    /// The client gives the connection up.
    fn hang_up(&mut self, who: usize, node: usize, why: &str) {
        if let Some(place) = self.peers[who].wires[node] {
            tell!(self, "client {who} hangs up on node {node}: {why}");
            self.sever(place, 0);
            self.drop_wire(who, node);
            let now = self.now(who);
            self.peers[who].coordinator.on_down(NodeId(node as u8), why.into(), now);
            self.act(who);
        }
    }

    /// The connection is gone, for whatever reason; the first so many messages under way still arrive.
    pub(super) fn sever(&mut self, place: usize, ghosts: usize) {
        let conn = &mut self.conns[place];
        conn.state = Way::Cut;
        conn.to_node.truncate(ghosts);
    }

    pub(super) fn drop_wire(&mut self, who: usize, node: usize) {
        self.note_trouble_between(who, node, self.nanos);
        self.be_displaced(who);
        if let Some(place) = self.peers[who].wires[node].take() {
            self.conns[place].state = Way::Cut;
        }
        let (life, later) = (self.peers[who].life, self.chance.of_any_size(1_000_000, 100_000_000));
        self.after(later, Deed::Dial { who, node, life });
    }

    pub(super) fn hear_of_break(&mut self, place: usize) {
        let Conn { who, node, life, .. } = self.conns[place];
        if !self.is_here(who, life, Deed::Break(place)) || self.peers[who].wires[node] != Some(place) {
            return;
        }
        self.drop_wire(who, node);
        let now = self.now(who);
        self.peers[who].coordinator.on_down(NodeId(node as u8), "cut".into(), now);
        tell!(self, "client {who} sees that its connection to node {node} is gone");
        self.act(who);
    }
}
