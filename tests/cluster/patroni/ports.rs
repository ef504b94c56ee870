//! Ports of the loopback.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Listens at a port where nobody did, below those that connections go out from.
pub fn listen() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (number % 20_000) as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
    }
}

/// A port for a program that is started later.
pub fn free_port() -> u16 {
    listen().local_addr().expect("its address").port()
}
