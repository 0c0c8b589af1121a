//! How many, how long, and how it all ends.

use super::*;

#[test]
fn connections_beyond_the_limits_are_refused_and_places_are_given_back() {
    for limits in [Limits { max_connections: 2, ..Limits::default() }, Limits { max_per_address: 2, ..Limits::default() }] {
        let host = Host::with(|settings| settings.limits = limits);
        let mut clients: Vec<Child> = (0..2)
            .map(|_| {
                let client = host.ssh_with("key", &[], &["sleep"]).spawn().unwrap();
                host.pid();
                client
            })
            .collect();
        let out = host.as_key("key");
        assert_eq!(out.code, Some(255));
        assert!(host.log().contains("too many connections"), "{}", host.log());
        let mut first = clients.remove(0);
        first.kill().unwrap();
        first.wait().unwrap();
        wait_for("the place to be free", || host.as_key("key").code == Some(0));
        clients[0].kill().unwrap();
        clients[0].wait().unwrap();
        host.nobody_is_left();
    }
}

#[test]
fn clients_that_do_not_log_in_are_few_and_not_for_long() {
    let host = Host::with(|settings| {
        settings.limits = Limits { max_unauthenticated: 3, login_grace: Duration::from_secs(2), ..Limits::default() }
    });
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(host.address).unwrap()).collect();
    wait_for("the silent ones to be counted", || host.as_key("key").code == Some(255));
    assert!(host.log().contains("have not logged in"), "{}", host.log());
    let mut told = String::new();
    TcpStream::connect(host.address).unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "rex: too many connections, try again later\r\n");
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.starts_with(b"SSH-2.0-rex\r\n"));
    }
    assert_eq!(host.as_key("key").code, Some(0));
    assert!(host.log().contains("no login within 2 s"), "{}", host.log());
    host.nobody_is_left();
}

#[test]
fn sessions_of_one_connection_are_limited() {
    let host = Host::with(|settings| settings.limits = Limits { max_sessions: 1, max_connections: 1, ..Limits::default() });
    let socket = host.path("mux");
    let mut master = host.ssh_with("key", &["-M", "-S", socket.to_str().unwrap()], &["sleep"]).spawn().unwrap();
    host.pid();
    wait_for("the master's socket", || socket.exists());
    assert_eq!(host.ssh(&["-S", socket.to_str().unwrap()], &["exit 0"]).code, Some(255));
    assert!(host.log().contains("too many sessions"), "{}", host.log());
    master.kill().unwrap();
    master.wait().unwrap();
    host.nobody_is_left();
}

#[test]
fn a_connection_without_a_session_is_closed_and_one_with_a_quiet_session_is_not() {
    let host = Host::with(|settings| settings.limits.idle_timeout = Duration::from_millis(500));
    let since = Instant::now();
    assert_eq!(host.ssh(&["-N"], &[]).code, Some(255));
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(host.ssh(&[], &["nap"]).text(), "rested\n");
}

#[test]
fn a_stopping_server_lets_sessions_finish_and_accepts_nothing_new() {
    let host = Host::start();
    let client = host.ssh_with("key", &[], &["nap"]);
    let napping = std::thread::spawn(move || run(client, b""));
    host.pid();
    host.tell_to_stop();
    wait_for("the socket to close", || TcpStream::connect(host.address).is_err());
    let out = napping.join().unwrap();
    assert_eq!((out.code, out.text().as_str()), (Some(0), "rested\n"), "{}", out.stderr);
    wait_for("the server to stop", || host.has_stopped());
}

#[test]
fn a_session_that_does_not_finish_is_ended_after_the_grace_or_at_once_when_asked_twice() {
    for (grace, twice) in [(Duration::from_millis(300), false), (PATIENCE * 10, true)] {
        let host = Host::with(|settings| settings.limits.shutdown_grace = grace);
        let mut client = host.ssh_with("key", &[], &[if twice { "stubborn" } else { "sleep" }]).spawn().unwrap();
        let pid = host.pid();
        host.tell_to_stop();
        if twice {
            host.tell_to_stop();
        }
        wait_for("the server to stop", || host.has_stopped());
        assert!(!is_alive(pid));
        assert_eq!(end_of(&mut client), Some(255));
    }
}
