//! One session: a process of its own, and the channel that feeds it. It ends with the channel, whatever it is doing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

use super::stream::{Credit, Flow};
use crate::error::Result;
use crate::sys::spawn::{Ended, IDENTITY_FD, Launch, Pipes, SessionProcess, THIS_PROGRAM, spawn_session};

/// From the client's going to SIGTERM: a session that notices its closed pipes ends by itself and writes its records.
const PATIENCE: Duration = Duration::from_secs(1);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// How long output may stay silent, after the process has ended, before a descendant that holds the pipe is no longer waited for.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that may still be in the pipe when the process has ended; no pipe is larger by default (pipe(7), pipe-max-size).
const MAX_REMAINDER: usize = 1 << 20;
const CHUNK: usize = 32 * 1024;
/// What a queued packet costs beside its bytes, roughly: a client that sends single bytes must not get a hundred times the memory.
const OVERHEAD: usize = 128;
/// execve(2) refuses a single string of 128 KiB; the terminator and the variable's name count too.
pub const MAX_REQUEST: usize = 128 * 1024 - 32;
/// Nothing of it is used to find programs that a script names; the constant is there because some library may look.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// RFC 4254 section 5.2.
const STDERR: u32 = 1;

/// What the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `ssh host 'text'`: what sshd's forced command finds in SSH_ORIGINAL_COMMAND, byte for byte, possibly empty.
    Exec(Vec<u8>),
    /// `ssh host < script`: the bare request, without the variable.
    Shell,
    /// `ssh -s host rex < script`.
    Subsystem,
}

/// How far the server's own end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    Running,
    /// Nothing new; what runs may finish.
    Finishing,
    /// What runs gets SIGTERM.
    Ending,
    /// What runs gets SIGKILL.
    Now,
}

/// The program of a session.
#[derive(Clone, Debug)]
pub struct Program {
    /// `None`: the program that is running now.
    pub path: Option<PathBuf>,
    /// Handed on as `--config`.
    pub config: PathBuf,
}

impl Program {
    /// The session's command line after `argv[0]`.
    fn arguments(&self, request: &Request) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["session".into(), "--config".into(), self.config.clone().into()];
        arguments.extend(["--identity-fd".into(), IDENTITY_FD.to_string().into()]);
        if *request == Request::Subsystem {
            arguments.extend(["--subsystem".into(), "rex".into()]);
        }
        arguments
    }

    /// # Errors
    /// As [`spawn_session`].
    pub fn start(&self, request: &Request, identity: &[u8]) -> Result<(SessionProcess, Pipes)> {
        let mut environment = vec![(OsString::from("PATH"), OsString::from(PATH))];
        if let Request::Exec(text) = request {
            environment.push(("SSH_ORIGINAL_COMMAND".into(), OsString::from_vec(text.clone())));
        }
        let program = self.path.clone().unwrap_or_else(|| THIS_PROGRAM.into());
        let arguments = self.arguments(request);
        spawn_session(&Launch { program: &program, name: OsStr::new("rex"), arguments: &arguments, environment: &environment, identity })
    }
}

/// What arrives for a session's standard input.
#[derive(Debug)]
enum Input {
    Data(Vec<u8>, Credit),
    /// The client said that nothing follows. Only this closes the session's standard input while its output is open.
    End,
}

/// The connection's end of a running session. Dropping it is the client's going: the session is ended without an end of input.
#[derive(Debug)]
pub struct Port {
    input: mpsc::UnboundedSender<Input>,
    _alive: oneshot::Sender<()>,
    done: Arc<AtomicBool>,
    flow: Arc<Flow>,
    ended: bool,
}

/// The session's end of the same.
#[derive(Debug)]
pub struct Lines {
    input: mpsc::UnboundedReceiver<Input>,
    gone: oneshot::Receiver<()>,
    done: Done,
}

#[derive(Debug)]
struct Done(Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Port {
    #[must_use]
    pub fn new(flow: Arc<Flow>) -> (Self, Lines) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (alive, gone) = oneshot::channel();
        let done = Arc::new(AtomicBool::new(false));
        let lines = Lines { input: receiver, gone, done: Done(Arc::clone(&done)) };
        (Self { input: sender, _alive: alive, done, flow, ended: false }, lines)
    }

    /// Queues data without waiting; the connection is held back while too much is queued. After the session has closed its input,
    /// data is dropped, as sshd drops it.
    pub fn data(&self, data: &[u8]) {
        if !self.ended {
            let credit = self.flow.queue(data.len().saturating_add(OVERHEAD));
            let _ = self.input.send(Input::Data(data.to_vec(), credit));
        }
    }

    /// The client will send nothing more. Saying so twice changes nothing.
    pub fn end_of_input(&mut self) {
        if !self.ended {
            self.ended = true;
            let _ = self.input.send(Input::End);
        }
    }

    /// Whether the session is over and the channel closed from this side.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

/// The client's end: where output and the exit status go.
#[derive(Debug)]
pub struct Client {
    pub channel: ChannelWriteHalf<Msg>,
    pub handle: Handle,
}

enum Outcome {
    /// The process has ended and its output has been sent.
    Ended,
    ClientGone,
    Stopped,
}

/// Runs a started session to its end: copies both ways, reports the exit, closes the channel, reaps the process.
pub async fn run(request: Request, process: SessionProcess, pipes: Pipes, lines: Lines, client: Client, mut stop: watch::Receiver<Stop>) {
    let Lines { mut input, mut gone, done } = lines;
    let mut process = process;
    let outcome = {
        let Pipes { stdin, stdout, stderr } = pipes;
        let (over, is_over) = watch::channel(false);
        // Order matters: what is declared last is dropped first. When the client has gone, the reading end of the session's output
        // closes before its input does, so that a script cut off in the middle is never taken for a whole one.
        let feed = pin!(feed(stdin, &mut input));
        let output = pin!(async {
            let errors = (request != Request::Subsystem).then_some(STDERR);
            let watching = async {
                process.exited().await;
                process.kill_group();
                let _ = over.send(true);
            };
            let out = copy(stdout, Some(None), &client.channel, is_over.clone());
            // sshd reads the standard error of a subsystem and throws it away; so do we.
            let err = copy(stderr, errors.map(Some), &client.channel, is_over.clone());
            tokio::join!(watching, out, err);
        });
        tokio::select! {
            biased;
            _ = &mut gone => Outcome::ClientGone,
            () = reached(&mut stop, Stop::Ending) => Outcome::Stopped,
            () = output => Outcome::Ended,
            () = feed => Outcome::ClientGone,
        }
    };
    match outcome {
        Outcome::Ended => {}
        Outcome::ClientGone => end(&mut process, PATIENCE, &mut stop).await,
        Outcome::Stopped => end(&mut process, Duration::ZERO, &mut stop).await,
    }
    let ended = process.reap();
    if !matches!(outcome, Outcome::ClientGone) {
        // Waiting for a client that takes nothing any more must not keep the session's place for ever: its going ends the waiting.
        tokio::select! {
            _ = &mut gone => {}
            () = report(ended, &client) => {}
        }
    }
    drop(done);
}

async fn end(process: &mut SessionProcess, patience: Duration, stop: &mut watch::Receiver<Stop>) {
    let killed = tokio::select! {
        () = process.end(patience, GRACE) => false,
        () = reached(stop, Stop::Now) => true,
    };
    if killed {
        process.end(Duration::ZERO, Duration::ZERO).await;
    }
}

/// Waits until the server's end has come as far as `wanted`.
pub async fn reached(stop: &mut watch::Receiver<Stop>, wanted: Stop) {
    if stop.wait_for(|now| *now >= wanted).await.is_err() {
        // The server itself has gone; sessions end by the drop of their processes.
        std::future::pending::<()>().await;
    }
}

/// Channel → standard input. Completes only when the client has gone without saying that its input ends.
async fn feed(stdin: pipe::Sender, input: &mut mpsc::UnboundedReceiver<Input>) {
    let mut stdin = Some(stdin);
    let mut whole = false;
    while let Some(item) = input.recv().await {
        match item {
            Input::Data(data, credit) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    // The session has closed its input; what still comes is dropped.
                    stdin = None;
                }
                drop(credit);
            }
            Input::End => {
                whole = true;
                stdin = None;
            }
        }
    }
    if whole {
        std::future::pending::<()>().await;
    }
}

/// Standard output or error → channel, at the pace of the client's window. `to`: `None` throws it away, `Some(None)` is channel data,
/// `Some(Some(n))` extended data.
async fn copy(mut pipe: pipe::Receiver, to: Option<Option<u32>>, channel: &ChannelWriteHalf<Msg>, mut is_over: watch::Receiver<bool>) {
    let mut buffer = vec![0_u8; CHUNK];
    let mut remainder = MAX_REMAINDER;
    while remainder > 0 {
        let over = *is_over.borrow();
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buffer) => read,
            () = silence(&mut is_over) => return,
        };
        let data = match read {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.get(..count).unwrap_or_default().to_vec(),
        };
        if over {
            remainder = remainder.saturating_sub(data.len());
        }
        let sent = match to {
            None => Ok(()),
            Some(None) => channel.data_bytes(data).await,
            Some(Some(kind)) => channel.extended_data_bytes(kind, data).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn silence(is_over: &mut watch::Receiver<bool>) {
    if is_over.wait_for(|over| *over).await.is_ok() {
        tokio::time::sleep(LINGER).await;
    }
}

async fn report(ended: Result<Ended>, client: &Client) {
    // Failing here means that the connection has gone, and then nobody wants to know.
    let _ = match ended {
        Ok(Ended::Code(code)) => client.channel.exit_status(u32::from(code)).await.map_err(|_| ()),
        Ok(Ended::Signal { number, core_dumped }) => {
            client.handle.exit_signal_request(client.channel.id(), signal(number), core_dumped, String::new(), String::new()).await
        }
        // waitpid failed: there is no status to tell. 70 is rex's "internal error".
        Err(_) => client.channel.exit_status(crate::error::Exit::Internal as u32).await.map_err(|_| ()),
    };
    let _ = client.channel.eof().await;
    let _ = client.channel.close().await;
}

/// The names of RFC 4254 section 6.10; others with the `@` that it asks for.
fn signal(number: i32) -> Sig {
    match number {
        libc::SIGABRT => Sig::ABRT,
        libc::SIGALRM => Sig::ALRM,
        libc::SIGFPE => Sig::FPE,
        libc::SIGHUP => Sig::HUP,
        libc::SIGILL => Sig::ILL,
        libc::SIGINT => Sig::INT,
        libc::SIGKILL => Sig::KILL,
        libc::SIGPIPE => Sig::PIPE,
        libc::SIGQUIT => Sig::QUIT,
        libc::SIGSEGV => Sig::SEGV,
        libc::SIGTERM => Sig::TERM,
        libc::SIGUSR1 => Sig::USR1,
        other => Sig::Custom(format!("SIG{other}@rex")),
    }
}
