//! Watching a channel: which tasks are offers for this node, and what becomes of each.
//!
//! Offers come by events; `ats::events` notices when some were missed. What is pending is listed whenever
//! events begin to flow or were missed, and every few seconds while they do not. A service that does not say
//! that it tells every event is looked at besides, more rarely when nothing happens.

mod take;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use crate::ats::{self, ListQuery, POLL_INTERVAL, Status, Subscribed, Task};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::{Event, PeerIdentity, Transfer};
use crate::files::{self, Existing, Target};
use crate::offer::inbox::{MAX_LIVE, OpenOffer};
use crate::offer::{self, Attributes, Offer};
use crate::receive;
use crate::sync::spawn_blocking;
use crate::troubles::InTrouble;

pub(crate) use self::take::take_all;

/// The shortest and the longest time between two looks for what is kept for too long.
const EXPIRY_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// How long after something happened a channel is listed though its events flow, where the service may lose
/// some without a word. Each further list comes after twice the time, up to the longest: a node at rest is
/// quiet, and finds within minutes what was lost.
const RELIST_AFTER: Duration = Duration::from_secs(60);
const LONGEST_RELIST: Duration = Duration::from_secs(240);

/// Tasks read at a time when a channel is listed.
const PAGE: u32 = 100;

/// Tasks read of one list at most: what a flood of offers can make this node read in one go.
const MAX_LISTED: u32 = 4_000;

/// Pages read of one list at most, however short they are.
const MAX_PAGES: usize = 100;

/// Those of them that were cut short, each of which may have been as long as an answer can be.
const MAX_CUT_PAGES: usize = 2;

/// What a watch is to do with offers.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// The channel; without, the configured one.
    pub channel: Option<String>,
    /// Take every file into this folder; without, ask by a `file` event.
    pub save_dir: Option<PathBuf>,
    /// What becomes there of a file whose name is taken.
    pub existing: Existing,
    /// Ask by a `file` event all the same; [`crate::node::Node::take`] then does what is done without asking.
    pub asks: bool,
    /// What each of its `file` events names it by.
    pub tag: u32,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    channel: String,
    /// Where every file goes; without, each is asked about.
    save_dir: Option<PathBuf>,
    existing: Existing,
    asks: bool,
    tag: u32,
}

/// Begins a watch, which lasts until the node is destroyed. This user's state, and a folder to save in, which
/// is made, are tried before this returns: what can't receive anything takes no offer.
///
/// # Errors
/// `STATE`; those of a folder that can't be written to.
pub(crate) fn start(context: &Arc<Context>, options: WatchOptions) -> Result<()> {
    receive::try_records(context)?;
    context.try_trust()?;
    let save_dir = options.save_dir.as_deref().map(files::prepare_folder).transpose()?;
    let channel = options.channel.unwrap_or_else(|| context.settings.channel.clone());
    let WatchOptions { existing, asks, tag, .. } = options;
    let watch = Watch { channel, save_dir, existing, asks, tag };
    context.spawn(run(context.clone(), watch));
    Ok(())
}

async fn run(context: Arc<Context>, watch: Watch) {
    let watching = async {
        // Before anything is listed, so that what goes on is not offered anew.
        receive::take_up(&context, |context, open| too_large(context, open).is_none()).await;
        tokio::join!(receive::report_missed(&context), follow(&context, &watch), expire(&context, &watch))
    };
    context.cancel().run_until_cancelled(watching).await;
}

/// Removes, now and again, what is kept of transfers that never ended.
async fn expire(context: &Arc<Context>, watch: &Watch) {
    let age = context.options.max_partial_age;
    let interval = (age / 2).clamp(EXPIRY_INTERVAL.0, EXPIRY_INTERVAL.1);
    loop {
        let (context, dir) = (context.clone(), watch.save_dir.clone());
        let expired = spawn_blocking(move || {
            receive::expire(&context);
            dir.map(|dir| files::sweep(&dir, age))
        });
        let _ = expired.await;
        sleep(interval).await;
    }
}

async fn follow(context: &Arc<Context>, watch: &Watch) {
    let tells = context.is_first_watch(&watch.channel);
    let events = context.events(&watch.channel);
    // Subscribed before the first list, so that nothing falls between the two.
    let (mut listener, state) = events.listen();
    let mut told = Told { tells, ..Told::default() };
    let mut event = match state {
        Subscribed::Pending => None,
        Subscribed::Yes { .. } => Some(ats::AtsEvent::Connected),
        Subscribed::No(error) => Some(ats::AtsEvent::Disconnected { error }),
    };
    let mut look = Instant::now() + POLL_INTERVAL;
    let mut relist = Relist::new();
    loop {
        let is_connected = matches!(events.state(), Subscribed::Yes { .. });
        let lists = matches!(event, Some(ats::AtsEvent::Connected | ats::AtsEvent::Missed));
        match event.take() {
            Some(ats::AtsEvent::Connected) if tells => context.emit(connected(context, watch)),
            Some(ats::AtsEvent::Disconnected { error }) if tells => {
                context.emit(Event::Disconnected { reason: error.to_string() });
            }
            Some(ats::AtsEvent::Task { task, .. }) => {
                relist = Relist::new();
                consider(context, watch, &mut told, &task);
            }
            _ => {}
        }
        if lists {
            list(context, watch, &mut told, is_connected).await;
            relist = Relist::new();
            look = Instant::now() + POLL_INTERVAL;
        }
        event = match timeout_at(look, listener.next()).await {
            Ok(event) => Some(event),
            Err(_) => {
                // While events flow there is little to list, unless offers were left for want of room.
                let state = events.state();
                let is_connected = matches!(state, Subscribed::Yes { .. });
                let is_late = !matches!(state, Subscribed::Yes { is_complete: true }) && relist.is_due();
                if !is_connected || told.failed || is_late || context.inbox.has_room_for_left() {
                    list(context, watch, &mut told, is_connected).await;
                    relist.listed();
                }
                look = Instant::now() + POLL_INTERVAL;
                None
            }
        };
    }
}

/// When a channel is listed next though its events flow.
struct Relist {
    since: Instant,
    after: Duration,
}

impl Relist {
    /// Something happened just now.
    fn new() -> Self {
        Self { since: Instant::now(), after: RELIST_AFTER }
    }

    fn is_due(&self) -> bool {
        self.since.elapsed() >= self.after
    }

    fn listed(&mut self) {
        *self = Self { since: Instant::now(), after: (self.after * 2).min(LONGEST_RELIST) };
    }
}

fn connected(context: &Context, watch: &Watch) -> Event {
    Event::Connected {
        ats_url: context.settings.url.clone(),
        channel: watch.channel.clone(),
        actor_id: context.actor_id().to_owned(),
    }
}

/// What the owner was told of the lists of a channel: each trouble once, until it has passed.
#[derive(Debug, Default)]
struct Told {
    /// Whether this watch tells the owner at all.
    tells: bool,
    failed: bool,
    was_told_why: bool,
    left_out: bool,
    /// It can't be read who is known, so that no offer can be judged.
    unread: Option<InTrouble>,
}

impl Told {
    /// Notes what keeps offers from being judged; they are found again by a list.
    fn unread(&mut self, context: &Context, error: &Error) {
        self.unread.get_or_insert_with(|| context.enter_trouble(error));
    }

    /// Tells that the channel can't be listed. A refused key, which will not mend itself, is an error; where
    /// no events flow either, that was told.
    fn failed(&mut self, context: &Context, watch: &Watch, error: ats::AtsError, is_connected: bool) {
        let channel = files::display(&watch.channel);
        tracing::debug!("listing {channel} failed: {error}");
        self.failed = true;
        let is_refused = error.is_refused();
        if !(is_refused || is_connected && self.tells) || std::mem::replace(&mut self.was_told_why, true) {
            return;
        }
        context.emit(if is_refused {
            Event::Error { error: error.into() }
        } else {
            Event::Warning { message: format!("the offers on channel {channel} can't be listed: {error}") }
        });
    }

    /// Tells that so many entries of a list were left out.
    fn listed(&mut self, context: &Context, watch: &Watch, left_out: u32) {
        (self.failed, self.was_told_why) = (false, false);
        let told = std::mem::replace(&mut self.left_out, left_out > 0);
        if left_out > 0 && !told && self.tells {
            let channel = files::display(&watch.channel);
            context.emit(Event::Warning {
                message: format!(
                    "{left_out} of the tasks on channel {channel} are too large or malformed, and were left \
                     out wholly or in part; the others are served"
                ),
            });
        }
    }
}

/// Reads what is pending on the channel, the newest first, so that what is left over from long ago, however
/// much it is, hides no offer that somebody waits for. Of those read, who waits longest is served first.
async fn list(context: &Arc<Context>, watch: &Watch, told: &mut Told, is_connected: bool) {
    let mut query = ListQuery {
        status: Some(Status::Pending),
        kind: Some(offer::TASK_TYPE.into()),
        channel: Some(watch.channel.clone()),
        limit: Some(PAGE),
        sort_by: Some("created_at".into()),
        sort_dir: Some("desc".into()),
        ..Default::default()
    };
    let (mut read, mut left_out, mut cut, mut offers) = (0_u32, 0_u32, 0, Vec::new());
    let (mut failed, mut counts) = (None, HashMap::new());
    for _ in 0..MAX_PAGES {
        let page = match context.client.list_page(&query, |task| open_offer(context, watch, task)).await {
            Ok(page) => page,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        read = read.saturating_add(page.len);
        query.go_on(&page);
        left_out = left_out.saturating_add(page.left_out);
        cut += usize::from(page.is_cut);
        for open in page.tasks {
            let of_actor = counts.entry(open.actor().to_owned()).or_insert(0_usize);
            *of_actor += 1;
            // More has no room, and would hide what others offered before.
            match *of_actor <= MAX_LIVE / 2 {
                true => offers.push(open),
                false => context.inbox.leave(open.actor()),
            }
        }
        let is_enough = read >= MAX_LISTED || offers.len() >= MAX_LIVE || cut >= MAX_CUT_PAGES;
        if !page.has_more || is_enough {
            break;
        }
    }
    match failed {
        Some(error) => told.failed(context, watch, error, is_connected),
        None => told.listed(context, watch, left_out),
    }
    for open in offers.into_iter().rev() {
        deal_with(context, watch, told, open);
    }
}

/// Looks at a task that something happened to, and does what the watch is to do with it.
fn consider(context: &Arc<Context>, watch: &Watch, told: &mut Told, task: &Task) {
    if task.status != Status::Pending {
        context.inbox.gone(&task.id);
    } else if let Some(open) = open_offer(context, watch, task.clone()) {
        deal_with(context, watch, told, open);
    }
}

/// The offer in a pending task, if this node may answer it.
fn open_offer(context: &Context, watch: &Watch, task: Task) -> Option<OpenOffer> {
    if task.status != Status::Pending || task.kind != offer::TASK_TYPE || task.channel != watch.channel {
        return None;
    }
    let offer = match Offer::from_payload(&task.payload) {
        Ok(offer) => offer,
        Err(error) => {
            tracing::debug!("task {} is no offer: {error}", task.id);
            return None;
        }
    };
    let me = context.actor_id();
    let is_for_me = match &offer.recipient_id {
        Some(recipient) => recipient == me,
        None => offer.sender_id != me,
    };
    let open = OpenOffer { task, offer, peer: PeerIdentity::UNKNOWN };
    let is_stale = open.is_stale(context.client.clock(), context.options.max_offer_age);
    if is_for_me && is_stale {
        tracing::debug!("offer in task {} has expired", open.task.id);
    }
    (is_for_me && !is_stale).then_some(open)
}

/// Declines an offer, takes it, or asks the owner. One that can't be judged here and now is left on the
/// service.
fn deal_with(context: &Arc<Context>, watch: &Watch, told: &mut Told, mut open: OpenOffer) {
    let (now, max_age) = (context.client.clock(), context.options.max_offer_age);
    if !context.inbox.is_new(&open) {
        return;
    }
    let judged = context.judge().sender(&open.task, &open.offer);
    if let Err(error) = &judged
        && error.code.is_of_this_machine()
    {
        told.unread(context, error);
        context.inbox.leave(open.actor());
        return;
    }
    told.unread = None;
    if let Ok(peer) = judged {
        open.peer = peer;
    }
    let Some(handle) = context.inbox.put(open.clone(), |other| other.is_stale(now, max_age)) else { return };
    let name = open.safe_name();
    let transfer = open.transfer(name.as_str().to_owned());
    if let Some(error) = judged.err().or_else(|| too_large(context, &open)) {
        context.inbox.declined(&open.task.id);
        // Without a recipient it is another's to take.
        if open.offer.recipient_id.is_some() {
            decline(context, open, error, transfer);
        }
        return;
    }
    reserve(context, &open);
    match watch.save_dir.as_ref().filter(|_| !watch.asks) {
        None => {
            let (task, channel) = (open.task.to_value(), watch.channel.clone());
            let Attributes { mode, mtime, .. } = open.offer.attributes;
            let watch = watch.tag;
            context.emit(Event::File { transfer, offer: handle, mode, mtime, task, channel, watch });
        }
        Some(dir) => {
            let target = Target::InFolder { dir: dir.clone(), name, existing: watch.existing };
            take_all(context, handle, target);
        }
    }
}

/// Keeps the idle connection that an offer names until the offer is answered, or is stale.
fn reserve(context: &Context, OpenOffer { task, offer, .. }: &OpenOffer) {
    if let Some(p2p) = offer.p2p.as_ref().filter(|p2p| p2p.features.reuse) {
        let longest = context.options.max_offer_age;
        let left = offer.expires_at.as_ref().map_or(longest, |expires_at| {
            Duration::try_from(expires_at.at() - OffsetDateTime::from(context.client.clock()))
                .unwrap_or_default()
        });
        context.incoming.reserve(&offer.sender_id, &p2p.key, &task.id, Instant::now() + left.min(longest));
    }
}

/// Why this node does not take an offer, whatever its owner says: it has room for no such file.
fn too_large(context: &Context, open: &OpenOffer) -> Option<Error> {
    let OpenOffer { offer, .. } = open;
    let (has, size) = match open.tree() {
        // Many small files take far more than their bytes.
        Some(tree) => ("may take", tree.room(offer.size)),
        None => ("has", offer.size),
    };
    let max = context.options.max_file_size.filter(|max| size > *max)?;
    let name = files::display(&offer.name);
    let message = format!("{name} {has} {size} bytes, more than the {max} that are accepted here");
    Some(Error::new(Code::TooLarge, message))
}

fn decline(context: &Arc<Context>, open: OpenOffer, error: Error, transfer: Transfer) {
    let error = error.of(&open.offer.transfer_id, Some(&open.task.id.to_string()));
    context.emit(Event::TransferFailed { transfer, error: error.clone() });
    let Ok(turn) = context.declining.clone().try_acquire_owned() else { return };
    let client = context.client.clone();
    context.spawn(async move {
        let _turn = turn;
        // What this machine knows of identities is nobody else's business.
        let reason = match error.code {
            Code::Identity => error.code.public_reason(),
            _ => error.message.as_str(),
        };
        if let Err(failed) = client.reject(&open.task.id, reason).await {
            tracing::debug!("task {} could not be rejected: {failed}", open.task.id);
        }
    });
}
