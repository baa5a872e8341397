//! How safe is it? What is promised, on which conditions, what is not, and what was tried.
//!
//! # What this lock is
//!
//! A *lease* over N independent Redis masters. While a quorum of them keep their data, and clocks run at roughly the
//! right speed, at most one client at a time holds a name. It ends by itself, so that a holder that dies blocks nobody
//! for longer than the ttl.
//!
//! # What it is not
//!
//! It is not consensus, and it cannot stop you. A program that is frozen after its last look at the lock (a stopped
//! process, swapping, a virtual machine being moved) may wake up and act when the lock has passed on to somebody
//! else. Nothing that happens between that look and the effect can be seen from here, and the same holds for the locks
//! of etcd, ZooKeeper, Chubby, and every other lease.
//!
//! So ask what a rare second holder would do.
//!
//! - **Work twice, harmlessly** (a cache filled twice, a report sent again): the lock alone is enough.
//! - **Damage data**: take the lock *and* hand the [fencing token](crate::FencingToken) to the resource with every
//!   write. If the resource cannot check a token, no lock with a time limit makes it safe, this one included.
//!
//! # Fencing tokens
//!
//! Every guarded lock has a token, [`LockView::fencing_token`](crate::LockView::fencing_token), whose number is larger than
//! that of every earlier holder of the name. The resource keeps the token of the last write that it accepted, and
//! refuses what [may not follow](crate::FencingToken::may_follow) it:
//!
//! ```sql
//! UPDATE account SET balance = $1, fence = $2, nonce = $3
//!  WHERE id = $4 AND (fence < $2 OR (fence = $2 AND nonce = $3))
//! ```
//!
//! No row changed means: you have lost the lock, stop. Keep the number in a 64-bit integer; it is below 2^53.
//!
//! *Why numbers grow, whatever clocks do.* With its grant a node installs a number above every earlier one of that key:
//! its fence. The lock's number T is the largest of its grants, and it counts only once q nodes have T as their
//! fence, if need be by a second round that makes it so where the key is still ours. Any two quorums share a node. No
//! node installs a number twice, so no two locks have the same; and a node that gave its grant to a later lock gave
//! it a larger number than any it had, so later locks have larger ones. Time-outs, delays, lost messages and wrong clocks
//! do not enter into that argument. (Clocks only choose *which* larger number is installed, so that all nodes choose
//! the same and one round is enough.)
//!
//! *What it hangs on.* Fewer than 2q − N nodes may lose the number of that key to a data loss: none with a plain
//! majority of an odd number of nodes, two with 4 of 5. A node that lost it goes on from its clock, above the end of its
//! probation. So order holds even past that, unless one of three things comes on top:
//!
//! - node clocks are wrong by more than (probation − 250 ms) / 2, which is nothing at all for a longest ttl below 250 ms;
//! - a node's clock was set back by more than the time since the number was given out;
//! - the number was far ahead of the clocks, because it was asked for with [`Mutex::floor`](crate::Mutex::floor). Then
//!   numbers fall to what the clocks say.
//!
//! The nonce covers what is left: should a number ever come twice, two holders cannot both write with it. A resource that
//! has seen a larger number than you were given tells you which: ask again with [`Mutex::floor`](crate::Mutex::floor).
//!
//! *Numbers are forgotten, in order.* A node drops the number of a name [`fencing_retention`](crate::RedlockBuilder::fencing_retention) (an
//! hour) after its last lock. That is a term of the lock cluster, which no client shortens. A node without a number goes on
//! from its **own** clock, which has passed the old number by then. Where it has not, because the number came from a clock
//! hours ahead, the node goes on from the largest such number of any name, which it keeps for good. So how far clocks are
//! apart does not matter. A clock that is set back does, if it goes behind what the node has forgotten: each client that
//! looks at a node has it note how far its clock has come, four times in a longest ttl at most. A client that finds the
//! clock behind that by more than half of `fencing_retention` gives the node a new marker, and the node then gives only numbers
//! above the time that was noted; a client that has met the node sees it in the very vote. So order holds whatever clocks
//! do, provided that a client looks at a node at least once in half of `fencing_retention`, or that no clock is set back by more
//! than half of it between two looks. [`forget`](crate::Redlock::forget) drops the number of a name within the longest ttl:
//! for that name, no clock may be set back by more than that.
//!
//! # What it costs the nodes
//!
//! A held lock is one string key with the name's length and 32 bytes. In guarded mode each name that was locked is
//! remembered for `fencing_retention` after its last lock, at 105 bytes and the length of `quorlock:fence:NAME` (measured on Redis
//! 7.0: 128 bytes for a name of 8 bytes, 144 for 24, 176 for 60):
//!
//! > bytes on each node = new names per second × `fencing_retention` in seconds × (120 + length of the name)
//!
//! Ten fixed names cost nothing worth a thought. A hundred new names a second (queue items, orders) cost 50 MB with the
//! default of an hour. At `maxmemory` a node with `noeviction` refuses every lock, so leave room, or
//! [`forget`](crate::Redlock::forget) names that do not come again: that costs them for the longest ttl only.
//! `quorlock doctor` shows how many names each node remembers, and warns, as does
//! [`NodeWarning`](crate::Event::NodeWarning), when they take a quarter of `maxmemory`. A clock that was once
//! far ahead changes nothing of this: numbers go on from where it was, at the price of a second round.
//!
//! # At most one holder
//!
//! No two guards of one name are valid at once, provided that
//!
//! | condition | what breaks it | what we do about it |
//! |---|---|---|
//! | every client of the name uses the same nodes, database, quorum and longest ttl, and an address is one server | two configurations; a DNS name, a service or a virtual IP with two servers behind it, or one that moves to a blank server while the old one lives on | each node remembers its cluster and serves no other; a differing client gets an error (unless its list, or what is behind its addresses, shares q nodes and is blank elsewhere: see below) |
//! | nodes do not forget a lock that still runs | a restart without data, or with old data; a flush; a promoted replica; a blank machine behind the old address | such a node casts no vote for the longest ttl: it is *on probation* |
//! | clocks differ in speed by less than the [drift](crate::RedlockBuilder::drift) | a time service that corrects fast (`chrony`: up to 8.3 %) | a warning once it shows; `maxslewrate`, or a drift up to 0.2 |
//! | no clock of a granting node jumps forward | `makestep` while running, a paused virtual machine | the node is out of the count for the longest ttl, and the lock is told lost if too few are left. A step of less than 20 ms is not seen: for a ttl below 2.7 s it may be more than the drift allows |
//! | the client's own clock goes on | a virtual machine of the *client* that is paused, or moved, without its wall clock being set forward at once | both clocks of the client stood still, so [`is_valid`](crate::LockView::is_valid) itself says yes after the resume, until the next answer shows that all nodes have gone on: a third of the ttl and a round trip at most. Only the resource can refuse such a holder: fencing |
//! | one process has the guard | a `fork` | a guard in the child of a fork is of no use: see [`Guard`](crate::Guard) |
//! | no keys are deleted or evicted | `FLUSHALL` of locks only, `maxmemory` with eviction | evicting nodes do not vote; a holder whose keys others took or deleted is told at its next renewal, or at the release |
//! | nodes are independent | replicas, shared disks, one server named twice | replicas and the same server twice are refused |
//! | the holder stops when the lock says so | ignoring [`lost`](crate::LockView::lost) | [`Mutex::run`](crate::Mutex::run), `quorlock run` |
//! | no plain client or other library takes the same names | they know nothing of probation | do not mix them, or count on the margin alone |
//!
//! A failed condition does harm only where the lock has nothing to spare: held on *g* of *N* nodes with quorum *q*, it
//! survives *g + q − N − 1* nodes that lose it early ([`Guard::margin`](crate::Guard::margin)).
//!
//! | N | q | may be away | may forget or jump, at least | when all N hold the lock |
//! |---|---|---|---|---|
//! | 3 | 2 | 1 | 0 | 1 |
//! | 3 | 3 | 0 | 2 | 2 |
//! | 5 | 3 | 2 | 0 | 2 |
//! | 5 | 4 | 1 | 2 | 3 |
//! | 7 | 4 | 3 | 0 | 3 |
//! | 7 | 5 | 2 | 2 | 4 |
//!
//! A super-majority ([`RedlockBuilder::quorum`](crate::RedlockBuilder::quorum)) costs availability and buys safety without any
//! guard or clock; an even N costs availability and buys nothing.
//!
//! # A lock stands on all nodes
//!
//! What a lock has to spare is not lost while nodes are well. A node that is up, past its probation, and quick to answer has
//! every held lock's key within two ttls, or somewhat more where rivals try for it many times a second just then. A renewal asks
//! every node; where the key is missing it is taken again, and counts from the next renewal on.
//!
//! *A node with a larger number.* A holder's own late grant, or the vain attempt of a rival, may leave a larger number on a
//! node than the lock has. It is told from a later holder's by another renewal, which comes within 100 ms: a number that was given out
//! stands on q nodes, and so not when q nodes have our key and nothing above our number. Then the node counts again, and
//! a missing key is taken past the number that the node told, and past no later one. Its fence never falls.
//!
//! A holder that does not renew ([`Mutex::auto_renew`](crate::Mutex::auto_renew)) has what it was given.
//!
//! # Probation
//!
//! Among its data each node has one string, `quorlock:node`: which cluster it belongs to, on which terms (N, q, longest
//! ttl), which server wrote it, and when. It is compared, in the same step, by every script that votes. Whatever
//! makes a node forget its locks makes this string go, or disagree with the server it stands on; then it is written
//! anew, and the node casts no vote until the longest ttl has passed, when every lock that it may have forgotten is
//! over. Who saw the change also waits that long on its own clock.
//!
//! The marker notes the time by the node's clock and by the clock of the client that wrote it. Who comes fresh waits for
//! both: a node whose clock is set right while it is on probation gains nothing by that. (Unless the writer's clock is more
//! than a second ahead of ours: one of the two is wrong then, and the node's alone counts.) The server that it names is
//! told by its run id, its replication id, how many keys it evicted, how often databases were swapped (whichever) or all
//! flushed, and whether it evicts. So a node that evicted is on probation once it has stopped, although `CONFIG RESETSTAT` hides
//! the count, if any client met it meanwhile; and a marker that comes back with old data does not fit.
//!
//! Probation begins with whoever meets the node first, also if it only looks ([`RedlockBuilder::look_only`](crate::RedlockBuilder::look_only),
//! `quorlock doctor`). When it ends, holders that met the node about as soon as others come back to it a little sooner than it votes for those who
//! ask for a lock (a sixtieth of the longest ttl, at least 100 ms).
//!
//! What it does not see:
//!
//! - a virtual machine restored *with its memory*: the same process knows less than it did;
//! - old data that come back into the same process while no connected client notices, by ways that leave no count:
//!   `FLUSHDB` and `RESTORE` of the marker, `DEBUG RELOAD NOSAVE`, or any of them behind a `CONFIG RESETSTAT`;
//! - keys that were evicted while no client was connected, behind a `CONFIG RESETSTAT`;
//! - a role that changes there and back within a quarter of the longest ttl, without a restart, through a replica
//!   that had this very node's data: the string is the same, and `INFO` is asked only that often;
//! - a node behind an address that is replaced by a blank one while clients with the old *and* the new list are at
//!   work, if both lists share q nodes. Stop the clients first. The same list everywhere does not help where the *address*
//!   moves (DNS, a virtual IP, two pods behind one name): connections to the old server stay, new ones reach the new one,
//!   which is taken in as a repair, and both vote for one place. Shut the old server down before its address moves.
//!
//! A node that restarts with all its data is on probation too: nobody can tell from outside that nothing is missing. So
//! restart one at a time, and wait the longest ttl in between. The same costs a node that gets its *first* replica: it
//! takes a new replication id then, as it does when its role changes, and again when the backlog of the last replica is freed
//! (`repl-backlog-ttl`, an hour). `redis-cli --rdb` is such a replica for a moment: do not back up all nodes at once, or every
//! held lock is lost, and again an hour later. Back up one, wait until it votes, and stagger them by more than an hour.
//!
//! A clock that is set *back* makes keys live longer by as much: the key of a holder that died stands until the old time has
//! come again. No living lock has more than the longest ttl left; `quorlock status` shows such a key, and
//! [`break_lock`](crate::Redlock::break_lock) removes it.
//!
//! Servers that restart while the first two clients of a new lock cluster look at them may be left with two ids. No lock can
//! be had then, and `quorlock init --force` ends it.
//!
//! # Use something else
//!
//! If you run etcd or ZooKeeper already: their locks come from consensus and carry numbers that can fence. If one
//! Redis with a rare double run is good enough: one URL is that lock. If the resource can compare and swap by itself:
//! then it may need no lock. If all that is protected lives in one database: its own locks share its fate.
//!
//! # What was tried
//!
//! | what | how often | found |
//! |---|---|---|
//! | every state of an attempt and a lease within stated bounds: loss, delay, any order, late bytes of old connections, expiry at any moment, renewals with retaken nodes, restarts, three and five nodes, super-majorities | 131.9 million states | nothing |
//! | seeded histories of whole clients and nodes with drifting, jumping and suspended clocks, and clocks hours apart, crashes, restarts with old or no data, flushes, evictions, swaps, changes of role, partitions, pauses, cancelled and waiting callers | a million: 12 million locks, 7 million renewals | nothing within the conditions above; beyond them only what was to be expected |
//! | real servers that forget while a lock is held, in eight ways, with probation on and off | in every run of the tests | on: no second holder; off: a second holder each time |
//! | six processes, locks of 10 to 30 ms that run out while they are taken | 6,300 locks in every run | no number twice, none out of order |
//! | a holder stopped past its time that wakes up writing, to a file and to `PostgreSQL` | in every run of the tests; `scripts/postgres` | refused with a token, an update lost without |
//!
//! Thirty-two known mistakes, put into the same code one at a time, are each caught in every run: `tests/README.md` in the
//! repository has the table, and how to run it all.
//!
//! *Not tried:* virtual machines restored with their memory, servers that lie, proxies that rewrite or repeat commands,
//! power cuts under real disks, clusters of more than nine nodes.
