//! The engine in one process, from one seed, under faults; and every crash point of every short history.
//!
//! Time is a manual clock, chance is a seeded generator, the disk is in memory, the registry is a value. Nothing here
//! reads the machine's clock or asks it for randomness, so a seed that failed fails again, the same way.
//!
//! # The budget of faults
//!
//! What may go wrong, and what must hold all the same. A seed has one climate ([`faults::Climate`]).
//!
//! | climate | what happens | what must hold |
//! |---|---|---|
//! | every one | the power goes at any disk operation, during openings too, and any subset of un-synced sectors and names survives; the process dies and the machine does not; a newer session opens the volume under the feet of an older one; an older grant, a wrong key, requests that make no sense; the registry keeps no anchors for a while; room runs out | the whole volume is one prefix of its history with everything that a flush acknowledged; what is fenced changes nothing; no error without a reason |
//! | calm | nothing else | no error at all but "no space" |
//! | failing | reads, writes and syncs fail and say so; a failed sync leaves sectors durable, gone, or visible and never to be written | an acknowledgement is true; after such a failure the machine restarts, and the rule of every climate holds |
//! | full | the device is smaller than the store was told, or others take its room now and then | as above; "no space" wherever room is needed |
//! | rotten | durable bits flip, writes land elsewhere, two writes of a life never happen; nobody is told | never a wrong byte: the right one, or an error that names the place. What cannot be read is found by a scrub. Opening is refused, or gives a prefix with all that the anchor covers |
//! | copied | old copies of the disk come back, with and without the anchor; twins live on side by side | what is older than the anchor is refused; without the anchor it opens as what it was; no nonce is ever used twice |
//!
//! Under all of them: no plaintext and no key on a disk, no (salt, seq) for two things, each root that of the model, no
//! more room than was given, errors that name a place or a remedy. When nothing fails any more, the volume takes writes
//! again, if need be after garbage was collected or something was discarded.
//!
//! Not survived, and not simulated: the only copy rolled back or rotten *above* the newest anchor and the newest
//! committed mark; a failed sync after which the machine goes on as if nothing had happened; two faults that are silent
//! in the metadata of both checkpoint slots are not told apart from a lost volume.
//!
//! # Reading order
//!
//! [`content`] and [`model`] (what a volume must hold), [`checker`] (the judges), [`site`] (a volume and all that it
//! needs), [`exhaustive`] with [`afterwards`], then [`plan`], [`faults`], `workload`, `recovery` and [`world`] for the seeds.
//! [`mutant`] has the deliberate mistakes that prove that the judges can condemn.
//!
//! What must never be here: a clock or a generator of the machine, a judge that knows the workload, a fault that is
//! not in the budget.

#![forbid(unsafe_code)]

pub mod afterwards;
pub mod checker;
pub mod content;
pub mod exhaustive;
pub mod faults;
pub mod model;
pub mod mutant;
pub mod plan;
pub mod process;
mod recovery;
pub mod registry;
pub mod site;
pub mod witness;
mod workload;
pub mod world;
