//! A terminal with somebody at it: tmux runs a program on a pseudo-terminal and shows what stands on its screen.

use super::Rex;
use super::process::until;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// One terminal, in a server of its own. Gone with the program in it when dropped.
pub struct Screen {
    socket: PathBuf,
}

impl Screen {
    /// Runs the command on a terminal of this size and name (TERM).
    #[track_caller]
    pub fn start(rex: &Rex, command: &Command, term: &str, (columns, rows): (u16, u16)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let screen = Self { socket: rex.root().join(format!("tmux{}", COUNT.fetch_add(1, Ordering::Relaxed))) };
        let settings = rex.root().join("tmux.conf");
        let lines = format!(
            "set -g remain-on-exit on\nset -g status off\nset -sg escape-time 0\nset -g default-terminal {term:?}\nset -g history-limit 5000\n"
        );
        std::fs::write(&settings, lines).unwrap();
        let mut tmux = screen.tmux();
        tmux.arg("-f").arg(settings).args(["new-session", "-d", "-x", &columns.to_string(), "-y", &rows.to_string(), "--"]);
        tmux.args(["sh", "-c", "code=$1; shift; \"$@\"; echo $? >\"$code\"", "-"]).arg(screen.code_file());
        tmux.arg(command.get_program()).args(command.get_args());
        let output = tmux.output().expect("tmux");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        screen
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm")
            .current_dir("/");
        command.arg("-S").arg(&self.socket);
        command
    }
    #[track_caller]
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.tmux().args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types text as it is.
    pub fn types(&self, text: &str) -> &Self {
        self.said(&["send-keys", "-l", "--", text]);
        self
    }
    /// Presses keys by tmux's names: `Enter`, `Tab`, `C-c`.
    pub fn presses(&self, keys: &[&str]) -> &Self {
        self.said(&[&["send-keys"], keys].concat());
        self
    }
    /// Types a line, sees it stand there, and presses Enter.
    #[track_caller]
    pub fn enters(&self, line: &str) -> &Self {
        let tail: String = line.chars().skip(line.chars().count().saturating_sub(20)).collect();
        self.types(line);
        let there = || self.text().trim_end().ends_with(tail.trim_end());
        assert!(until(20.0, there), "`{tail}` is not shown:\n{}", self.text());
        self.presses(&["Enter"])
    }
    /// Puts text in as a paste: in brackets, where the program wants that.
    pub fn pastes(&self, text: &str) -> &Self {
        let file = self.socket.with_extension("paste");
        std::fs::write(&file, text).unwrap();
        self.said(&["load-buffer", file.to_str().unwrap(), ";", "paste-buffer", "-p", "-r"]);
        self
    }
    /// Everything that stands there and stood above it, lines that were folded in one.
    pub fn text(&self) -> String {
        self.said(&["capture-pane", "-p", "-J", "-S", "-"])
    }
    /// The same with the escapes for colours.
    pub fn coloured(&self) -> String {
        self.said(&["capture-pane", "-p", "-e", "-J", "-S", "-"])
    }
    /// From now on all that the program writes goes into this file too, as it is.
    pub fn copies_to(&self, file: &std::path::Path) {
        self.said(&["pipe-pane", &format!("cat > {}", file.display())]);
    }
    pub fn resize(&self, columns: u16, rows: u16) {
        self.said(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }
    /// Waits until this stands there.
    #[track_caller]
    pub fn shows(&self, text: &str) -> &Self {
        assert!(until(20.0, || self.text().contains(text)), "`{text}` does not come up:\n{}", self.text());
        self
    }
    /// Waits until the last line is this prompt, empty.
    #[track_caller]
    pub fn is_ready(&self) -> &Self {
        let ready = || self.text().trim_end().lines().last().is_some_and(|line| line.ends_with('>') && line.contains('@'));
        assert!(until(20.0, ready), "there is no prompt:\n{}", self.text());
        self
    }
    /// Waits until the last line asks for the rest of an entry.
    #[track_caller]
    pub fn goes_on(&self) -> &Self {
        let asks = || self.text().trim_end().lines().last().is_some_and(|line| line.trim_end() == "...");
        assert!(until(20.0, asks), "it does not go on:\n{}", self.text());
        self
    }
    /// The exit code of the program, which must end within so many seconds.
    #[track_caller]
    pub fn code(&self, seconds: f64) -> i32 {
        let mut code = None;
        let ended = until(seconds, || {
            code = std::fs::read_to_string(self.code_file()).ok().and_then(|text| text.trim().parse().ok());
            code.is_some()
        });
        assert!(ended, "it does not end:\n{}", self.text());
        code.unwrap()
    }
    /// tmux is told of the end of its child by a signal that it misses now and then, so the exit code is written down.
    fn code_file(&self) -> PathBuf {
        self.socket.with_extension("code")
    }
    /// Closes the terminal, as a window is closed.
    pub fn close(&self) {
        self.said(&["kill-server"]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}
