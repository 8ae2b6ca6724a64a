//! What a receipt proves: who gave which file to whom, and when, by the word of both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::receipt::{Flawed, Receipt, Signed};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ats::Status;
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::files::{self, ARCHIVE_SUFFIX, Source, TreeOptions};
use crate::offer::{self, Offer};
use crate::receipts;
use crate::sync::blocking;
use crate::trust::{Trust, Voucher};

/// Where a receipt is.
#[derive(Clone, Debug)]
pub enum ReceiptPlace {
    /// In the task of a transfer, by the id of either; where the service has forgotten it, among those that
    /// this user keeps.
    Transfer(String),
    /// In this file.
    File(PathBuf),
}

/// What both ends of a transfer have signed, and who they are.
#[derive(Clone, Debug)]
pub struct VerifiedReceipt {
    /// The transfer's id.
    pub transfer_id: String,
    /// The task's id, as the service gave it.
    pub task_id: Value,
    /// The name as it was offered, escaped for printing.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub hash: String,
    /// Who offered the file.
    pub sender: Signatory,
    /// Who has it, whole and verified.
    pub receiver: Signatory,
    /// When it was offered, by the sender's clock; Unix milliseconds.
    pub offered_at: u64,
    /// When it had arrived, by the receiver's clock; Unix milliseconds.
    pub completed_at: u64,
    /// How long the transfer took, milliseconds.
    pub duration_ms: u64,
    /// Whether a file was compared with it.
    pub is_file_checked: bool,
}

/// Who signed one half of a receipt.
#[derive(Clone, Debug)]
pub struct Signatory {
    /// The actor's id.
    pub actor_id: String,
    /// Its identity.
    pub identity: [u8; 32],
    /// By what it is known.
    pub voucher: Voucher,
}

/// Checks a receipt, and `file` against it.
///
/// # Errors
/// Those of [`Node::verify`](crate::node::Node::verify).
pub(crate) async fn run(
    context: &Arc<Context>,
    place: ReceiptPlace,
    file: Option<PathBuf>,
) -> Result<VerifiedReceipt> {
    let receipt = match &place {
        ReceiptPlace::Transfer(id) => in_task(context, id).await?,
        ReceiptPlace::File(path) => in_file(path.clone()).await?,
    };
    let signed = receipt.check().map_err(|flawed| refused(&place, flawed))?;
    let trust = context.trust.clone();
    let (verified, offer) = blocking(move || {
        let verified = verified(&trust, &receipt, &signed)?;
        Ok((verified, signed.offer))
    })
    .await?;
    let Some(file) = file else { return Ok(verified) };
    blocking(move || compare(&file, &offer)).await?;
    Ok(VerifiedReceipt { is_file_checked: true, ..verified })
}

async fn in_task(context: &Arc<Context>, id: &str) -> Result<Receipt> {
    let found = offer::find(&context.client, &context.settings.channel, id).await;
    let why = match found {
        Ok(Some(task)) if task.status == Status::Completed => {
            return Ok(Receipt {
                scope: context.trust.scope().clone(),
                task_id: task.id.to_value(),
                payload: task.payload,
                outputs: task.outputs,
            });
        }
        Ok(Some(task)) => {
            let message = format!(
                "transfer {} is {}: a receipt is made when a file has arrived",
                files::display(id),
                task.status
            );
            return Err(Error::new(Code::NoReceipt, message));
        }
        Ok(None) => Error::new(
            Code::NoReceipt,
            format!(
                "there is no receipt of transfer {}: {} does not know it, and this user keeps none; check \
                 the id and the settings",
                files::display(id),
                files::display(&context.settings.url)
            ),
        ),
        Err(error) => error,
    };
    let (receipts, id) = (context.receipts.clone(), id.to_owned());
    blocking(move || receipts.find(&id).ok_or(why)).await
}

async fn in_file(path: PathBuf) -> Result<Receipt> {
    blocking(move || {
        let shown = files::display_path(&path);
        let value = receipts::read(&path)
            .map_err(|error| Error::new(Code::NoReceipt, format!("{shown} is no receipt: {error}")))?;
        Receipt::from_value(&value)
            .map_err(|_| Error::new(Code::NoReceipt, format!("{shown} is no receipt of this version's form")))
    })
    .await
}

fn refused(place: &ReceiptPlace, flawed: Flawed) -> Error {
    let of = match place {
        ReceiptPlace::Transfer(id) => format!("the task of transfer {}", files::display(id)),
        ReceiptPlace::File(path) => files::display_path(path),
    };
    match flawed {
        Flawed::Forged(_) => Error::new(
            Code::Identity,
            format!("{of} was changed after both ends had signed: {flawed}; ask them for their own receipts"),
        ),
        Flawed::Unsigned(_) | Flawed::Unreadable(_) => Error::new(
            Code::NoReceipt,
            format!(
                "{of} holds no receipt: {flawed}, as where one end has no identity, or runs the JavaScript \
                 package"
            ),
        ),
    }
}

fn verified(trust: &Trust, receipt: &Receipt, signed: &Signed) -> Result<VerifiedReceipt> {
    let Signed { offer, completion, sender, receiver, receiver_id } = signed;
    let signatory = |actor_id: &str, identity: &[u8; 32], service: Option<&str>| {
        let voucher = trust.vouch(&receipt.scope, service, actor_id, identity)?;
        Ok::<_, Error>(Signatory { actor_id: actor_id.to_owned(), identity: *identity, voucher })
    };
    let offered = offer.p2p.as_ref();
    Ok(VerifiedReceipt {
        transfer_id: offer.transfer_id.clone(),
        task_id: receipt.task_id.clone(),
        file_name: files::display(&offer.name),
        size: offer.size,
        hash: offer.hash.clone(),
        sender: signatory(&offer.sender_id, sender, offered.and_then(|p2p| p2p.service.as_deref()))?,
        receiver: signatory(receiver_id, receiver, completion.p2p.service.as_deref())?,
        offered_at: offered.map_or(0, |p2p| p2p.seq),
        completed_at: completion.completed_at,
        duration_ms: completion.duration_ms,
        is_file_checked: false,
    })
}

fn compare(path: &Path, offer: &Offer) -> Result<()> {
    let (size, hash) = (offer.size, &offer.hash);
    let folder = offer.attributes.tree.as_ref().and_then(|_| offer.name.strip_suffix(ARCHIVE_SUFFIX));
    let source = match folder.filter(|_| path.is_dir()) {
        // As it arrived, it has the archive that it came as.
        Some(name) => {
            let options = TreeOptions::default();
            Source::open_folder(path, name.to_owned(), &options, &CancellationToken::new())?
        }
        None => Source::open(path)?,
    };
    let differs = |how: String| {
        let shown = files::display_path(path);
        Err(Error::new(Code::Integrity, format!("{shown} is not the file of the receipt: {how}")))
    };
    if source.size() != size {
        return differs(format!("it has {} bytes, not {size}", source.size()));
    }
    let found = source.hash(|_| {}, &CancellationToken::new())?;
    if found != *hash {
        return differs(format!("its SHA-256 is {found}, not {hash}"));
    }
    Ok(())
}
