//! What the connections do, once around.

use super::client::{Aborted, Client};

/// A few keys that everybody wants, with every verb on one resource.
pub fn busy_keys(client: &mut Client) {
    let keys = some_keys(client);
    // In a transaction the keys are in order, as with any rows: else two of them deadlock.
    let work = |client: &mut Client, verbs: &dyn Fn(&mut Client, &str) -> Result<(), Aborted>| {
        for (at, key) in keys.iter().enumerate() {
            verbs(client, key)?;
            if at == 0 && client.rng.u8(..4) == 0 {
                client.undone(|client| verbs(client, key))?;
            }
        }
        Ok(())
    };
    // What goes wrong is an answer, too, and has been counted.
    let _ = match client.rng.u8(..10) {
        0..5 => any_verb(client, &keys[0]),
        5..8 => {
            let roll_back = client.rng.u8(..3) == 0;
            client.transaction("READ COMMITTED", roll_back, |c| work(c, &writing_verb))
        }
        8 => client.transaction("REPEATABLE READ", false, |c| work(c, &writing_verb)),
        _ => client.transaction("SERIALIZABLE", false, |c| work(c, &writing_verb)),
    };
    client.idle(3);
}

/// The verbs that the broken variant has, too.
pub fn few_verbs(client: &mut Client) {
    let keys = some_keys(client);
    let _ = if client.rng.bool() {
        few(client, &keys[0])
    } else {
        let roll_back = client.rng.u8(..3) == 0;
        client.transaction("READ COMMITTED", roll_back, |c| few(c, &keys[0]))
    };
    client.idle(2);
}

fn some_keys(client: &mut Client) -> Vec<String> {
    let mut keys: Vec<_> = (0..client.rng.usize(1..3))
        .map(|_| client.rng.u8(..4))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.iter().map(|n| format!("busy:{n}")).collect()
}

fn ttl(client: &mut Client) -> i64 {
    client.rng.i64(2..80)
}

fn few(client: &mut Client, key: &str) -> Result<(), Aborted> {
    let ttl = ttl(client);
    match client.rng.u8(..4) {
        0 => client.renew(key, ttl),
        1 => client.release(key),
        _ => client.acquire(key, ttl, 0),
    }
}

fn writing_verb(client: &mut Client, key: &str) -> Result<(), Aborted> {
    match client.rng.u8(..8) {
        0 => client.consume(&[key.to_owned()], None),
        _ => few(client, key),
    }
}

fn any_verb(client: &mut Client, key: &str) -> Result<(), Aborted> {
    let ttl = ttl(client);
    match client.rng.u8(..12) {
        0 => client.acquire(key, ttl, 20),
        1 => client.look(key),
        2 => client.transaction("READ COMMITTED", false, |c| c.write_guarded(key)),
        3 => client.release_all(None),
        4 => client.consume(&[key.to_owned()], None),
        _ => few(client, key),
    }
}

/// A cart of a till: filled, looked at, sold, thrown away or abandoned.
pub fn till(client: &mut Client) {
    let _ = shop(client);
    client.idle(4);
}

fn shop(client: &mut Client) -> Result<(), Aborted> {
    let newest = client.newest_sold()?;
    let mut items: Vec<i32> = (0..client.rng.usize(1..5))
        .map(|_| (newest + client.rng.i32(-10..10)).max(0))
        .collect();
    items.sort_unstable();
    items.dedup();
    client.rng.shuffle(&mut items);
    let keys: Vec<_> = items.iter().map(|item| format!("kit:{item}")).collect();
    let cart = format!("cart{}", client.rng.u16(..));
    let ttl = client.rng.i64(10..300);
    let Some(tokens) = client.acquire_many(&keys, ttl, &cart)? else {
        return Ok(());
    };
    client.idle(6);
    match client.rng.u8(..10) {
        0 => return Ok(()), // abandoned
        1 => return client.release_all(Some(&cart)),
        2 => client.renew(&keys[0], ttl)?,
        _ => {}
    }
    let roll_back = client.rng.u8(..5) == 0;
    let mut is_sold = false;
    let tells_tokens = client.rng.bool();
    let paid = client.transaction("READ COMMITTED", roll_back, |client| {
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
    } else if is_sold {
        client.release_all(Some(&cart))?;
    }
    Ok(())
}

/// Breaks and sweeps.
pub fn administrator(client: &mut Client) {
    let key = if client.rng.bool() {
        format!("busy:{}", client.rng.u8(..4))
    } else {
        let newest = client.newest_sold().unwrap_or_default();
        format!("kit:{}", (newest + client.rng.i32(-10..10)).max(0))
    };
    let rows = client.rng.i32(1..50);
    let _ = client.break_lock(&key);
    let _ = client.sweep(rows);
    client.idle(40);
}
