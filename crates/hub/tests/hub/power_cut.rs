//! What is left after a power cut: the disk is made anew from the system calls of a hub, with what was
//! synced, and of the rest whatever chance leaves. A hub that is started on it must have all that was
//! acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::random::Random;
use crate::support::{Caller, start_in};
use crate::traced::{TracedHub, serve_if_traced};

const TEST: &str = "power_cut::what_was_acknowledged_is_there_after_a_power_cut";
/// All calls that change files or keep them, and those that answer.
const CALLS: &str = "trace=open,openat,creat,mkdir,mkdirat,write,writev,pwrite64,pwritev,pwritev2,truncate,\
    ftruncate,fallocate,copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,symlink,symlinkat,\
    unlink,unlinkat,rmdir,fsync,fdatasync,sync_file_range,sync,syncfs,sendto,sendmsg";
/// Strings as they are, and all of them in hex.
const OPTIONS: [&str; 5] = ["-xx", "-s", "1048576", "-e", CALLS];
/// How many times the power is cut behind an answer, and at any moment.
const CUTS: usize = 12;
/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    if serve_if_traced() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (data, trace) = (dir.path().join("data"), dir.path().join("trace"));
    std::fs::create_dir(&data).expect("a folder");
    let Some((mut hub, mut address)) = TracedHub::start(TEST, &data, &trace, &OPTIONS) else { return };
    let runtime = Runtime::new().expect("a runtime");
    // Each end of a hub has the log written to the database, and goes from the disk itself.
    for round in 0..3 {
        if round > 0 {
            address = hub.restart();
        }
        runtime.block_on(use_hub(&Caller::new(address, "a")));
    }
    let history = History::read(&String::from_utf8(hub.end()).expect("text"), &data);
    assert!(history.syncs > 15, "{} syncs", history.syncs);
    let answers: Vec<usize> = history.answers.iter().map(|answer| answer.at + 1).collect();
    assert_eq!(answers.len(), 3 * 5 * 4, "answers");

    let mut random = Random::new(1);
    let mut cuts: Vec<usize> = (0..CUTS).map(|_| random.within(0..history.end as u64) as usize).collect();
    cuts.extend((0..CUTS).map(|_| answers[random.within(0..answers.len() as u64) as usize]));
    cuts.push(history.end);
    for (at, cut) in cuts.into_iter().enumerate() {
        let left = dir.path().join(format!("left-{at}"));
        history.make_disk(cut, &left, Some(&mut random));
        let lost = runtime.block_on(history.lost(cut, &left));
        assert_eq!(lost, Vec::<String>::new(), "cut before call {cut}, disk {at}");
        std::fs::remove_dir_all(left).expect("removed");
    }

    // Had the log never been synced, this would have seen it.
    let cut = answers.last().copied().expect("an answer");
    let left = dir.path().join("left-unsynced");
    history.without_log().make_disk(cut, &left, None);
    assert_ne!(runtime.block_on(history.lost(cut, &left)), Vec::<String>::new());
}

/// Makes, claims and completes tasks, several at a time.
async fn use_hub(caller: &Caller) {
    let tasks = (0..5).map(async |_| {
        let payload = json!({ "p2p": { "key": "ab".repeat(32) }, "text": "x".repeat(3000) });
        let id = caller.make_task(json!({ "title": "t", "payload": payload })).await;
        caller.post(&format!("/tasks/{id}/claim"), json!({})).await;
        let said = json!({ "parts": [{ "type": "text", "content": "m" }] });
        caller.post(&format!("/tasks/{id}/messages"), said).await;
        caller.post(&format!("/tasks/{id}/complete"), json!({ "outputs": [1] })).await;
    });
    futures_util::future::join_all(tasks).await;
}

/// What a hub did to its disk, in the order of its calls: a call is at the number of its line.
struct History {
    changes: Vec<(Span, Change)>,
    /// When each change was kept for sure: by the end of a sync that began behind it.
    kept: Vec<Option<usize>>,
    answers: Vec<Answer>,
    syncs: usize,
    /// One behind the last line.
    end: usize,
}

/// From where to where a call took.
#[derive(Clone, Copy)]
struct Span {
    begin: usize,
    end: usize,
}

/// One change of a disk. Files and folders are numbered as they were made, for another may get the name of
/// one.
#[derive(Clone)]
enum Change {
    Name { path: PathBuf, inode: usize, is_folder: bool },
    NoName { path: PathBuf },
    Write { inode: usize, at: usize, data: Vec<u8> },
    Length { inode: usize, length: usize },
}

/// What a caller was told.
struct Answer {
    at: usize,
    task: i64,
    /// How far it had come: made, claimed, with a message, completed.
    step: usize,
}

/// The names and open files of the hub at some line.
#[derive(Default)]
struct Reader {
    names: HashMap<PathBuf, usize>,
    inodes: usize,
    /// Where the next `write` to a descriptor goes.
    positions: HashMap<String, usize>,
    syncs: Vec<(Span, PathBuf, Option<usize>)>,
}

impl History {
    /// Reads what strace has recorded of what is in a folder.
    fn read(trace: &str, folder: &Path) -> Self {
        let mut history =
            Self { changes: Vec::new(), kept: Vec::new(), answers: Vec::new(), syncs: 0, end: 0 };
        let mut reader = Reader::default();
        // By process: the call that has begun, and where.
        let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
        for (at, line) in trace.lines().enumerate() {
            let Some((process, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            let (begin, whole) = if let Some(call) = call.strip_suffix("<unfinished ...>") {
                begun.insert(process, (at, call));
                history.answers.extend(Answer::read(call, at));
                continue;
            } else if let Some((_, rest)) =
                call.strip_prefix("<...").and_then(|call| call.split_once("resumed>"))
            {
                let Some((begin, call)) = begun.remove(process) else { continue };
                (begin, format!("{call}{rest}"))
            } else {
                history.answers.extend(Answer::read(call, at));
                (at, call.to_owned())
            };
            history.add(&mut reader, Call::parse(&whole), Span { begin, end: at }, folder);
        }
        history.end = trace.lines().count();
        history.syncs = reader.syncs.len();
        history.kept = history.changes.iter().map(|(span, change)| reader.kept(*span, change)).collect();
        history
    }

    fn add(&mut self, reader: &mut Reader, call: Option<Call>, span: Span, folder: &Path) {
        let Some(call) = call else { return };
        // What shares memory with other processes is made anew by whoever opens the database.
        let is_kept = |path: &PathBuf| path.starts_with(folder) && !path.to_string_lossy().ends_with("-shm");
        let Some(path) = call.paths.last().cloned().filter(is_kept) else { return };
        let inode = reader.names.get(&path).copied();
        let number = |at: usize| call.numbers.get(at).copied().expect("a number");
        match call.name.as_str() {
            "open" | "openat" | "mkdir" | "mkdirat" => {
                reader.positions.insert(call.result.clone(), 0);
                match inode {
                    None => {
                        reader.inodes += 1;
                        reader.names.insert(path.clone(), reader.inodes);
                        let is_folder = call.name.starts_with("mkdir");
                        self.changes.push((span, Change::Name { path, inode: reader.inodes, is_folder }));
                    }
                    Some(inode) if call.text.contains("O_TRUNC") => {
                        self.changes.push((span, Change::Length { inode, length: 0 }));
                    }
                    Some(_) => {}
                }
            }
            "unlink" | "unlinkat" => {
                reader.names.remove(&path);
                self.changes.push((span, Change::NoName { path }));
            }
            "pwrite64" | "write" => {
                let inode = inode.expect("a file that has a name");
                let data = call.data[..call.result.parse().expect("a length")].to_vec();
                let at = match call.name.as_str() {
                    "write" => reader.positions.get(&call.descriptor).copied().expect("an open file"),
                    _ => number(1),
                };
                reader.positions.insert(call.descriptor, at + data.len());
                self.changes.push((span, Change::Write { inode, at, data }));
            }
            "ftruncate" => {
                let inode = inode.expect("a file that has a name");
                self.changes.push((span, Change::Length { inode, length: number(0) }));
            }
            "fsync" | "fdatasync" => reader.syncs.push((span, path, inode)),
            other => panic!("not understood: {other} of {}", path.display()),
        }
    }

    /// The same, with nothing in the write-ahead log ever kept for sure.
    fn without_log(&self) -> Self {
        let is_log = |path: &Path| path.to_string_lossy().ends_with("-wal");
        let names = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Name { path, inode, .. } if is_log(path) => Some(*inode),
            _ => None,
        });
        let logs: Vec<usize> = names.collect();
        let of_log = |change: &Change| matches!(change, Change::Write { inode, .. } if logs.contains(inode));
        let kept = self.changes.iter().zip(&self.kept);
        let kept = kept.map(|((_, change), kept)| kept.filter(|_| !of_log(change))).collect();
        Self { changes: self.changes.clone(), kept, answers: Vec::new(), ..*self }
    }

    /// Makes the disk as a power cut before a call may leave it: by chance, or with the least that it may.
    fn make_disk(&self, cut: usize, left: &Path, mut random: Option<&mut Random>) {
        let mut chance = |of: u64| random.as_mut().map_or(0, |random| random.within(0..of));
        let (mut names, mut files) = (BTreeMap::new(), HashMap::<usize, Vec<u8>>::new());
        for ((span, change), kept) in self.changes.iter().zip(&self.kept) {
            if span.begin >= cut {
                break;
            }
            let is_whole = kept.is_some_and(|kept| kept < cut) || chance(2) == 1;
            match change {
                Change::Name { path, inode, is_folder } if is_whole => {
                    names.insert(path, (*inode, *is_folder));
                }
                Change::NoName { path } if is_whole => {
                    names.remove(path);
                }
                Change::Length { inode, length } if is_whole => {
                    files.entry(*inode).or_default().resize(*length, 0);
                }
                Change::Write { inode, at, data } => {
                    let file = files.entry(*inode).or_default();
                    // A part of a write may be kept, sector by sector.
                    let is_torn = !is_whole && chance(2) == 1;
                    for (n, part) in data.chunks(SECTOR).enumerate() {
                        if is_whole || is_torn && chance(2) == 1 {
                            let at = at + n * SECTOR;
                            file.resize(file.len().max(at + part.len()), 0);
                            file[at..at + part.len()].copy_from_slice(part);
                        }
                    }
                }
                _ => {}
            }
        }
        std::fs::create_dir(left).expect("a folder");
        let is_there = |path: &Path| left.join(path).is_dir();
        for (path, (inode, is_folder)) in names {
            let name: PathBuf =
                path.components().skip_while(|part| part.as_os_str() != "data").skip(1).collect();
            // What was in a folder that is not there is not there either.
            if name.parent().is_some_and(|folder| !is_there(folder)) {
                continue;
            }
            match is_folder {
                true => std::fs::create_dir(left.join(name)).expect("a folder"),
                false => {
                    let content = files.get(&inode).map(Vec::as_slice).unwrap_or_default();
                    std::fs::write(left.join(name), content).expect("written");
                }
            }
        }
    }

    /// What a hub on such a disk lacks of what was acknowledged before the cut.
    async fn lost(&self, cut: usize, left: &Path) -> Vec<String> {
        let mut steps: BTreeMap<i64, usize> = BTreeMap::new();
        for answer in self.answers.iter().filter(|answer| answer.at < cut) {
            let step = steps.entry(answer.task).or_default();
            *step = answer.step.max(*step);
        }
        let hub = start_in(left, 0).await;
        let caller = Caller::new(hub.local_addr(), "a");
        let mut lost = Vec::new();
        for (id, step) in steps {
            let (status, answer) = caller.call(reqwest::Method::GET, &format!("/tasks/{id}"), None).await;
            let task = &answer["task"];
            let lacks_message = step >= 2 && task["messages"][0].is_null();
            if status != 200 || lacks_message || Answer::step_of(task).is_none_or(|found| found < step) {
                lost.push(format!("task {id} at {step}: {answer}"));
            }
        }
        // It can be written, too.
        caller.make_task(json!({ "title": "after" })).await;
        hub.shutdown().await;
        let whole = crate::database::rows(left, "PRAGMA integrity_check").await;
        assert_eq!(whole, ["ok"]);
        lost
    }
}

impl Answer {
    /// The answer that a call sends, if it is one to a change.
    fn read(call: &str, at: usize) -> Option<Self> {
        if !["write", "sendto", "sendmsg"].iter().any(|name| call.starts_with(name)) {
            return None;
        }
        let sent = strings(call).concat();
        let body = sent.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        sent.starts_with(b"HTTP/1.1 20").then_some(())?;
        let answer: Value = serde_json::from_slice(&sent[body..]).ok()?;
        let (message, task) = (&answer["message"], &answer["task"]);
        match message["task_id"].as_i64() {
            Some(task) => Some(Self { at, task, step: 2 }),
            None => Some(Self { at, task: task["id"].as_i64()?, step: Self::step_of(task)? }),
        }
    }

    fn step_of(task: &Value) -> Option<usize> {
        let is_said = task["messages"].as_array().is_some_and(|messages| !messages.is_empty());
        match task["status"].as_str()? {
            "pending" => Some(0),
            "in_progress" if is_said => Some(2),
            "in_progress" => Some(1),
            "completed" => Some(3),
            _ => None,
        }
    }
}

impl Reader {
    /// When a change was kept for sure.
    fn kept(&self, change_span: Span, change: &Change) -> Option<usize> {
        let keeps = |path: &Path, inode: Option<usize>| match change {
            // A name is in its folder.
            Change::Name { path: name, .. } | Change::NoName { path: name } => name.parent() == Some(path),
            Change::Write { inode: of, .. } | Change::Length { inode: of, .. } => inode == Some(*of),
        };
        let syncs = self.syncs.iter();
        let mut syncs =
            syncs.filter(|(span, path, inode)| change_span.end < span.begin && keeps(path, *inode));
        syncs.next().map(|(span, ..)| span.end)
    }
}

/// A call that succeeded.
struct Call {
    name: String,
    text: String,
    /// Those of its arguments and of its descriptor; the last is the one that matters.
    paths: Vec<PathBuf>,
    descriptor: String,
    data: Vec<u8>,
    /// The numbers among the arguments that are neither paths nor data.
    numbers: Vec<usize>,
    result: String,
}

impl Call {
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let result = result.split(['<', ' ']).next().unwrap_or_default();
        if result.starts_with('-') || result == "?" {
            return None;
        }
        let is_by_name =
            ["open", "creat", "mkdir", "unlink", "rename", "link", "symlink", "rmdir", "truncate"]
                .iter()
                .any(|begin| name.starts_with(begin));
        // One that makes nothing changes no disk.
        if name.starts_with("open") && !arguments.contains("O_CREAT") && !arguments.contains("O_TRUNC") {
            return None;
        }
        let described = arguments.split('<').nth(1).and_then(|rest| rest.split('>').next()).map(unescape);
        let texts = strings(arguments);
        let path = |bytes: &Vec<u8>| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
        let paths = match is_by_name {
            true => texts.iter().map(path).collect(),
            false => described.iter().map(path).collect(),
        };
        let numbers = arguments.trim_end().trim_end_matches(')').split(", ");
        let numbers = numbers.filter_map(|part| part.trim().parse().ok()).collect();
        let descriptor = arguments.split('<').next().unwrap_or_default().to_owned();
        let data = texts.concat();
        let (name, text, result) = (name.to_owned(), arguments.to_owned(), result.to_owned());
        Some(Self { name, text, paths, descriptor, data, numbers, result })
    }
}

/// The strings of a call, of which all characters are written in hex.
fn strings(call: &str) -> Vec<Vec<u8>> {
    call.split('"').skip(1).step_by(2).map(unescape).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let digits: String = text.split(r"\x").collect();
    hex::decode(digits).unwrap_or_default()
}
