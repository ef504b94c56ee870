//! What stands between a node and etcd, so that the node can be cut off: it then hears nothing any more,
//! as behind a network that drops all packets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub struct Proxy {
    pub port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Proxy {
    /// Passes on what comes to `listener` for as long as the tests run, to the port `to` on the loopback. It takes
    /// a listener, not a port: one that was let go of may be in use for a moment more, by a program that another
    /// test is just starting.
    pub fn start(listener: TcpListener, to: u16) -> Proxy {
        let port = listener.local_addr().expect("its address").port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = is_cut.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let cut = cut.clone();
                thread::spawn(move || pass_on(client, to, &cut));
            }
        });
        Proxy { port, is_cut }
    }

    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }
}

fn pass_on(client: TcpStream, to: u16, cut: &Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let cut_too = cut.clone();
    let answers = thread::spawn(move || copy(from_server, client, &cut_too));
    copy(from_client, server, cut);
    let _ = answers.join();
}

/// Copies until one end closes. What comes while it is cut is lost, and the connection with it: it ends when
/// something comes after that, as where the network is back and the other end has given up meanwhile.
fn copy(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 8192];
    let mut is_broken = false;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let is_cut = cut.load(Ordering::Relaxed);
        is_broken |= is_cut;
        if !is_cut && (is_broken || to.write_all(&buffer[..length]).is_err()) {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
