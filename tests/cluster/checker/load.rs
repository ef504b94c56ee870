//! What the connections do, once around.

use super::client::{Aborted, Client, End};

/// A few keys that everybody wants, with every verb on one resource.
pub fn busy_keys(client: &mut Client) {
    let keys = some_keys(client, "busy", 4);
    // What goes wrong is an answer, too, and has been counted.
    let _ = match client.rng.u8(..10) {
        0..5 => any_verb(client, &keys[0]),
        5..8 => {
            let end = end(client);
            client.transaction("READ COMMITTED", end, |c| work(c, &keys, ttl))
        }
        8 => client.transaction("REPEATABLE READ", End::Commit, |c| work(c, &keys, ttl)),
        _ => client.transaction("SERIALIZABLE", End::Commit, |c| work(c, &keys, ttl)),
    };
    client.idle(3);
}

/// Keys that are held for long, so that a crash has something to keep.
pub fn long_holds(client: &mut Client) {
    let keys = some_keys(client, "long", 12);
    let hour = |_: &mut Client| 3_600_000;
    let _ = if client.rng.bool() {
        few(client, &keys[0], hour)
    } else {
        let end = end(client);
        client.transaction("READ COMMITTED", end, |c| work(c, &keys, hour))
    };
    client.idle(6);
}

/// The verbs that the broken variant has, too.
pub fn few_verbs(client: &mut Client) {
    let keys = some_keys(client, "busy", 4);
    let _ = if client.rng.bool() {
        few(client, &keys[0], ttl)
    } else {
        let end = match client.rng.u8(..3) {
            0 => End::RollBack,
            _ => End::Commit,
        };
        client.transaction("READ COMMITTED", end, |c| few(c, &keys[0], ttl))
    };
    client.idle(2);
}

/// What a transaction does to its keys, some of it in savepoints. The keys are in order, as with any rows:
/// else two transactions deadlock.
fn work(client: &mut Client, keys: &[String], ttl: Ttl) -> Result<(), Aborted> {
    for key in keys {
        match client.rng.u8(..8) {
            // Rolled back, then perhaps done again.
            0 => client.savepoint(true, |c| writing_verb(c, key, ttl))?,
            1 => client.savepoint(false, |c| writing_verb(c, key, ttl))?,
            2 => client.savepoint(true, |c| {
                writing_verb(c, key, ttl)?;
                c.savepoint(false, |c| writing_verb(c, key, ttl))
            })?,
            _ => writing_verb(client, key, ttl)?,
        }
    }
    Ok(())
}

fn end(client: &mut Client) -> End {
    match client.rng.u8(..10) {
        0..6 => End::Commit,
        6..8 => End::RollBack,
        _ if !client.prepares => End::Commit,
        8 => End::PrepareAndCommit,
        _ => End::PrepareAndRollBack,
    }
}

/// One or two of so many keys of a kind.
fn some_keys(client: &mut Client, kind: &str, of: u8) -> Vec<String> {
    let mut keys: Vec<_> = (0..client.rng.usize(1..3))
        .map(|_| client.rng.u8(..of))
        .map(|n| format!("{kind}:{n:02}"))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

type Ttl = fn(&mut Client) -> i64;

fn ttl(client: &mut Client) -> i64 {
    client.rng.i64(2..80)
}

fn few(client: &mut Client, key: &str, ttl: Ttl) -> Result<(), Aborted> {
    let ttl = ttl(client);
    match client.rng.u8(..4) {
        0 => client.renew(key, ttl),
        1 => client.release(key),
        _ => client.acquire(key, ttl, 0),
    }
}

fn writing_verb(client: &mut Client, key: &str, ttl: Ttl) -> Result<(), Aborted> {
    match client.rng.u8(..8) {
        0 => client.consume(&[key.to_owned()], None),
        _ => few(client, key, ttl),
    }
}

fn any_verb(client: &mut Client, key: &str) -> Result<(), Aborted> {
    match client.rng.u8(..12) {
        0 => {
            let ttl = ttl(client);
            client.acquire(key, ttl, 20)
        }
        1 => client.look(key),
        2 => client.transaction("READ COMMITTED", End::Commit, |c| c.write_guarded(key)),
        3 => client.release_all(None),
        4 => client.consume(&[key.to_owned()], None),
        _ => few(client, key, ttl),
    }
}

/// A cart of a till: filled, looked at, sold, thrown away or abandoned.
pub fn till(client: &mut Client) {
    let _ = shop(client);
    client.idle(4);
}

/// Takes a cart and holds it for a while; its tokens, if it is to be sold then.
fn fill_cart(
    client: &mut Client,
    keys: &[String],
    cart: &str,
) -> Result<Option<Vec<i64>>, Aborted> {
    let ttl = client.rng.i64(10..300);
    let Some(tokens) = client.acquire_many(keys, ttl, cart)? else {
        return Ok(None);
    };
    client.idle(6);
    match client.rng.u8(..10) {
        0 => return Ok(None), // abandoned
        1 => {
            client.release_all(Some(cart))?;
            return Ok(None);
        }
        2 => client.renew(&keys[0], ttl)?,
        _ => {}
    }
    Ok(Some(tokens))
}

/// An item's name; some are so long that the index has them compressed.
fn kit(item: i32) -> String {
    let roses = if item % 4 == 0 { 54 } else { 0 };
    format!("kit:{item}{}", " with roses".repeat(roses))
}

fn shop(client: &mut Client) -> Result<(), Aborted> {
    let newest = client.newest_sold()?;
    // A cart of five and more is looked at by walking over neighbours.
    let most = if client.rng.u8(..4) == 0 { 10 } else { 5 };
    let mut items: Vec<i32> = (0..client.rng.usize(1..most))
        .map(|_| (newest + client.rng.i32(-10..10)).max(0))
        .collect();
    items.sort_unstable();
    items.dedup();
    client.rng.shuffle(&mut items);
    let keys: Vec<_> = items.iter().copied().map(kit).collect();
    let cart = format!("cart{}", client.rng.u16(..));
    let Some(tokens) = fill_cart(client, &keys, &cart)? else {
        return Ok(());
    };
    let end = end(client);
    let mut is_sold = false;
    let tells_tokens = client.rng.bool();
    let paid = client.transaction("READ COMMITTED", end, |client| {
        client.consume(&keys, tells_tokens.then_some(&tokens))?;
        is_sold = client.sold(&items)? > 0;
        if is_sold {
            return Err(Aborted);
        }
        client.idle(2);
        client.sell(&items, &tokens)
    });
    if paid.is_ok() {
        for _ in items {
            client.count("sold");
        }
    } else if client.is_lost {
        for _ in items {
            client.count("sold perhaps");
        }
    } else if is_sold {
        client.release_all(Some(&cart))?;
    }
    Ok(())
}

/// Breaks and sweeps.
pub fn administrator(client: &mut Client) {
    let key = if client.rng.bool() {
        format!("busy:{:02}", client.rng.u8(..4))
    } else {
        let newest = client.newest_sold().unwrap_or_default();
        kit((newest + client.rng.i32(-10..10)).max(0))
    };
    let rows = client.rng.i32(1..50);
    let _ = client.break_lock(&key);
    let _ = client.sweep(rows);
    client.idle(40);
}

/// What a router to several servers offers, every call by itself.
pub fn routed_keys(client: &mut Client) {
    client.is_routed = true;
    let key = some_keys(client, "busy", 4).remove(0);
    let _ = match client.rng.u8(..12) {
        0 => {
            let ttl = ttl(client);
            client.acquire(&key, ttl, 20)
        }
        1 => client.look(&key),
        2 => client.release_all(None),
        _ => few(client, &key, ttl),
    };
    client.idle(3);
}

/// Keys that are held for long, through a router.
pub fn routed_long_holds(client: &mut Client) {
    client.is_routed = true;
    let key = some_keys(client, "long", 40).remove(0);
    let _ = few(client, &key, |_| 3_600_000);
    client.idle(6);
}

/// A cart of things that are kept by one server.
pub fn routed_till(client: &mut Client) {
    client.is_routed = true;
    let _ = shop_there(client);
    client.idle(4);
}

fn shop_there(client: &mut Client) -> Result<(), Aborted> {
    let showcase = client.rng.u16(..200);
    let mut items: Vec<u8> = (0..6).collect();
    client.rng.shuffle(&mut items);
    items.truncate(client.rng.usize(1..4));
    let keys: Vec<_> = items
        .iter()
        .map(|item| format!("kit:{{showcase-{showcase}}}:{item}"))
        .collect();
    let cart = format!("cart{}", client.rng.u16(..));
    let Some(tokens) = fill_cart(client, &keys, &cart)? else {
        return Ok(());
    };
    let tells_tokens = client.rng.bool();
    client.sell_there(&keys, tells_tokens.then_some(&tokens))
}

/// Breaks and sweeps through a router.
pub fn routed_administrator(client: &mut Client) {
    client.is_routed = true;
    let key = some_keys(client, "busy", 4).remove(0);
    let rows = client.rng.i32(1..50);
    let _ = client.break_lock(&key);
    let _ = client.sweep(rows);
    client.idle(40);
}
