//! The vendors' programs: `nvidia-smi`, `amd-smi`, `rocm-smi`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::owner::Owner;
use super::source::{Found, Listed};
use super::table::{Head, Row, ToolSpec, cells, sources};
use super::{Ask, Sample, unix_ns};
use crate::node::find_program;

/// How long a program may take to print its first table: without persistence mode NVIDIA's driver starts first.
const FIRST: Duration = Duration::from_secs(20);

/// Time between two looks at the processes on the GPUs, each of which starts the program once more.
const PROCESSES: Duration = Duration::from_secs(30);

pub(super) struct Tool {
    spec: ToolSpec,
    /// The place of a GPU among the asked ones, by its number.
    asked: BTreeMap<u32, usize>,
    /// Of a program that goes on printing by itself.
    following: Option<Following>,
    owner: Owner,
    /// Processes of others by UUID, and when they were looked at.
    others: Option<(Instant, BTreeMap<String, Vec<String>>)>,
}

/// A program that prints a table again and again.
struct Following {
    child: Child,
    rows: Receiver<(i64, Row)>,
    /// The table that is not yet complete, and when its first row came.
    table: (i64, Vec<Row>),
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The programs that are known, in the order in which they are tried.
pub(super) fn known() -> Vec<ToolSpec> {
    sources().tool.clone()
}

impl Tool {
    pub(super) fn open(spec: ToolSpec, ask: &Ask) -> Result<(Self, Found), String> {
        find_program(&spec.name).ok_or("not on PATH")?;
        let (following, rows) = if spec.follows {
            let (following, rows) = follow(&spec, ask.interval_s)?;
            (Some(following), rows)
        } else {
            (None, table(&spec)?)
        };
        let instances = instances(&spec);
        let listed: Vec<Listed> = rows
            .into_iter()
            .map(|Row { index, uuid, name, mig, .. }| {
                let instances = instances.get(&index).cloned().unwrap_or_default();
                Listed { index, uuid, name, mig, instances }
            })
            .collect();
        let found = Found::of(&ask.gpus, &listed);
        let numbers = found.devices.iter().enumerate().map(|(place, (at, _))| (listed[*at].index, place));
        let asked = numbers.collect();
        Ok((Self { spec, asked, following, owner: Owner::of_this_run(), others: None }, found))
    }

    pub(super) fn read(&mut self) -> Result<Vec<Sample>, String> {
        self.look_at_processes();
        let tables = match &mut self.following {
            Some(following) => {
                following.tables().map_err(|reason| format!("{}: {reason}", self.spec.name))?
            }
            None => {
                let at = unix_ns();
                // A program that fails once may succeed the next time.
                table(&self.spec).map(|rows| vec![(at, rows)]).unwrap_or_default()
            }
        };
        Ok(tables.into_iter().map(|(unix_ns, rows)| self.sample(unix_ns, rows)).collect())
    }

    fn sample(&self, unix_ns: i64, rows: Vec<Row>) -> Sample {
        let of_row = |row: Row| {
            let place = *self.asked.get(&row.index)?;
            let mut reading = row.reading;
            let others = self.others.as_ref().map(|(_, others)| others);
            reading.others =
                others.zip(row.uuid).map(|(others, uuid)| others.get(&uuid).cloned().unwrap_or_default());
            Some((place, reading))
        };
        Sample { unix_ns, gpus: rows.into_iter().filter_map(of_row).collect() }
    }

    fn look_at_processes(&mut self) {
        let is_due = self.others.as_ref().is_none_or(|(at, _)| at.elapsed() >= PROCESSES);
        if self.spec.processes.is_empty() || !is_due {
            return;
        }
        let Ok(text) = output(&self.spec.name, &self.spec.processes) else { return };
        let mut others: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let cells = cells(line);
            let (Some(uuid), Some(pid)) = (cells.first(), cells.get(1).and_then(|pid| pid.parse().ok()))
            else {
                continue;
            };
            others.entry(uuid.clone()).or_default().extend(self.owner.other(pid));
        }
        self.others = Some((Instant::now(), others));
    }
}

impl Following {
    /// The tables that are complete: the next one has begun.
    fn tables(&mut self) -> Result<Vec<(i64, Vec<Row>)>, String> {
        let mut complete = Vec::new();
        loop {
            match self.rows.try_recv() {
                Ok((at, row)) => complete.extend(self.add(at, row)),
                Err(TryRecvError::Empty) => return Ok(complete),
                Err(TryRecvError::Disconnected) if complete.is_empty() => return Err("ended".into()),
                Err(TryRecvError::Disconnected) => return Ok(complete),
            }
        }
    }

    fn add(&mut self, at: i64, row: Row) -> Option<(i64, Vec<Row>)> {
        let is_next = self.table.1.iter().any(|known| known.index == row.index);
        let complete = is_next.then(|| std::mem::take(&mut self.table));
        if self.table.1.is_empty() {
            self.table.0 = at;
        }
        self.table.1.push(row);
        complete
    }
}

/// Starts a program that goes on printing; returns its first table too. Fields that it does not know are replaced, or left out.
fn follow(spec: &ToolSpec, interval_s: f64) -> Result<(Following, Vec<Row>), String> {
    let mut refused: BTreeSet<String> = BTreeSet::new();
    loop {
        match follow_with(spec, interval_s, &refused)? {
            Ok(begun) => return Ok(begun),
            Err(field) => {
                if !refused.insert(field.clone()) {
                    return Err(format!("does not know the field {field}"));
                }
            }
        }
    }
}

/// The arguments without the refused fields.
fn arguments(spec: &ToolSpec, interval_s: f64, refused: &BTreeSet<String>) -> Vec<String> {
    let names = spec.roles.values().filter_map(|names| names.iter().find(|name| !refused.contains(*name)));
    let fields = names.cloned().collect::<Vec<_>>().join(",");
    let interval = format!("{:.0}", interval_s * 1e3);
    spec.argv.iter().map(|word| word.replace("FIELDS", &fields).replace("INTERVAL_MS", &interval)).collect()
}

type Begun = Result<(Following, Vec<Row>), String>;

/// The inner error is the field that the program refuses.
fn follow_with(spec: &ToolSpec, interval_s: f64, refused: &BTreeSet<String>) -> Result<Begun, String> {
    let (child, out) = start(&spec.name, &arguments(spec, interval_s, refused))?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send((unix_ns(), line)).is_err() {
                return;
            }
        }
    });
    let began = Instant::now();
    let (rows_in, rows) = mpsc::channel();
    let mut following = Following { child, rows, table: (0, Vec::new()) };
    let (mut head, mut last) = (None, String::new());
    loop {
        match lines.recv_timeout(FIRST.saturating_sub(began.elapsed())) {
            Ok((at, line)) => {
                if let Some(field) = refused_field(&line) {
                    return Ok(Err(field));
                }
                last.clone_from(&line);
                let Some(known) = head.as_ref() else {
                    head = Head::of(spec, &line);
                    continue;
                };
                let Some(row) = Head::row(known, spec, &line) else { continue };
                if let Some((_, first)) = following.add(at, row) {
                    let known = known.clone();
                    let spec = spec.clone();
                    std::thread::spawn(move || {
                        let rows = lines.iter().filter_map(|(at, line)| Some((at, known.row(&spec, &line)?)));
                        for row in rows {
                            if rows_in.send(row).is_err() {
                                return;
                            }
                        }
                    });
                    return Ok(Ok((following, first)));
                }
            }
            Err(RecvTimeoutError::Timeout) => return Err(format!("no table within {} s", FIRST.as_secs())),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("ended: {last}")),
        }
    }
}

/// `Field "x" is not a valid field to query.`
fn refused_field(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("Field \"")?;
    rest.split_once("\" is not a valid field").map(|(field, _)| field.to_owned())
}

/// One table of a program that prints one and ends.
fn table(spec: &ToolSpec) -> Result<Vec<Row>, String> {
    let text = output(&spec.name, &spec.argv)?;
    let mut lines = text.lines();
    let head = lines.by_ref().find_map(|line| Head::of(spec, line)).ok_or("its output has no table")?;
    Ok(lines.filter_map(|line| head.row(spec, line)).collect())
}

/// MIG instances by the number of their GPU: lines `GPU 0: NAME (UUID: GPU-…)` and `  MIG 1g.10gb Device 0: (UUID: MIG-…)`.
fn instances(spec: &ToolSpec) -> BTreeMap<u32, Vec<String>> {
    let text =
        if spec.list.is_empty() { String::new() } else { output(&spec.name, &spec.list).unwrap_or_default() };
    let (mut all, mut gpu) = (BTreeMap::<u32, Vec<String>>::new(), None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("GPU ") {
            gpu = rest.split_once(':').and_then(|(number, _)| number.parse().ok());
        } else if let (Some(gpu), Some((_, uuid))) =
            (gpu, line.trim_start().strip_prefix("MIG ").and_then(|rest| rest.split_once("UUID: ")))
        {
            all.entry(gpu).or_default().push(uuid.trim_end_matches([')', ' ']).to_owned());
        }
    }
    all
}

/// A program, and what it will print.
fn start(program: &str, arguments: &[String]) -> Result<(Child, ChildStdout), String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let out = child.stdout.take().ok_or("no output")?;
    Ok((child, out))
}

/// What a program prints, within [`FIRST`].
fn output(program: &str, arguments: &[String]) -> Result<String, String> {
    let (mut child, mut out) = start(program, arguments)?;
    let (sender, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = out.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned());
        let _ = sender.send(read);
    });
    let text = text.recv_timeout(FIRST);
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match text {
        Ok(Ok(text)) if status.success() => Ok(text),
        Ok(Ok(text)) => Err(format!("ended with {status}: {}", text.lines().next().unwrap_or_default())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", FIRST.as_secs())),
    }
}
