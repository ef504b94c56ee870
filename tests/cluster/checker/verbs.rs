//! What a connection asks for, and what it notes of the answers.

use chrono::DateTime;
use serde_json::Value;

use super::client::{Aborted, Client};
use super::history::{Event, Micros, Span};

fn micros(answer: &Value, key: &str) -> Micros {
    let text = answer[key].as_str().expect("a time");
    let time = DateTime::parse_from_rfc3339(text).expect("RFC 3339");
    time.timestamp_micros()
}

fn text(answer: &Value, key: &str) -> String {
    answer[key].as_str().expect(key).into()
}

impl Client {
    pub fn acquire(&mut self, key: &str, ttl_ms: i64, wait_ms: i64) -> Result<(), Aborted> {
        let session = self.rng.bool().then(|| format!("s{}", self.rng.u8(..3)));
        let owner = self.owner.clone();
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_acquire($1, $2, $3::bigint * interval '1 ms', $4, wait => $5::bigint * interval '1 ms')",
            &[&key, &owner, &ttl_ms, &session, &wait_ms],
            &[Some(key)],
            Some(&owner),
        )?;
        self.taken(key, &answer, span, |answer| micros(answer, "acquired_at"));
        Ok(())
    }

    /// Notes the outcome of taking `key`; `granted_at` reads when a grant was decided.
    fn taken(
        &mut self,
        key: &str,
        answer: &Value,
        span: Span,
        granted_at: impl Fn(&Value) -> Micros,
    ) {
        let outcome = text(answer, "outcome");
        self.count(&outcome);
        match outcome.as_str() {
            "granted" | "moved" => {
                let token = answer["token"].as_i64().expect("a token");
                self.events.push(Event::Drawn {
                    resource: key.into(),
                    token,
                    span,
                });
                let (earliest, from) = if outcome == "granted" {
                    let t = granted_at(answer);
                    (t, t)
                } else {
                    self.ended(key, self.owner.clone(), Some(token), span);
                    (span.began, Micros::MAX) // until the commit
                };
                let event = Event::Granted {
                    resource: key.into(),
                    owner: self.owner.clone(),
                    token,
                    earliest,
                    from,
                    seen: Micros::MAX,
                    until: micros(answer, "expires_at"),
                };
                self.note(span, event);
            }
            "renewed" => self.renewed(key, answer, span),
            "held" => self.refused(key, answer, span),
            _ => assert_eq!(outcome, "contended"),
        }
    }

    fn renewed(&mut self, key: &str, answer: &Value, span: Span) {
        let event = Event::Renewed {
            resource: key.into(),
            token: answer["token"].as_i64().expect("a token"),
            seen: Micros::MAX,
            until: micros(answer, "expires_at"),
        };
        self.note(span, event);
    }

    fn refused(&mut self, key: &str, answer: &Value, span: Span) {
        let owner = text(answer, "owner");
        assert_ne!(owner, self.owner, "refused its own lock: {answer}");
        self.events.push(Event::HeldBy {
            resource: key.into(),
            owner,
            span,
        });
    }

    fn ended(&mut self, key: &str, owner: String, moved_to: Option<i64>, span: Span) {
        let event = Event::Ended {
            resource: key.into(),
            owner,
            moved_to,
            span,
        };
        self.note(span, event);
    }

    pub fn renew(&mut self, key: &str, ttl_ms: i64) -> Result<(), Aborted> {
        let owner = self.owner.clone();
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_renew($1, $2, $3::bigint * interval '1 ms')",
            &[&key, &owner, &ttl_ms],
            &[Some(key)],
            Some(&owner),
        )?;
        let outcome = text(&answer, "outcome");
        self.count(&format!("renew: {outcome}"));
        match outcome.as_str() {
            "renewed" => self.renewed(key, &answer, span),
            "held" => self.refused(key, &answer, span),
            _ => {}
        }
        Ok(())
    }

    pub fn release(&mut self, key: &str) -> Result<(), Aborted> {
        let owner = self.owner.clone();
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_release($1, $2)",
            &[&key, &owner],
            &[Some(key)],
            Some(&owner),
        )?;
        let outcome = text(&answer, "outcome");
        self.count(&format!("release: {outcome}"));
        match outcome.as_str() {
            "released" => self.ended(key, self.owner.clone(), None, span),
            "held" => self.refused(key, &answer, span),
            _ => {}
        }
        Ok(())
    }

    pub fn release_all(&mut self, session: Option<&str>) -> Result<(), Aborted> {
        let owner = self.owner.clone();
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_release_all($1, $2)",
            &[&owner, &session],
            &[None],
            Some(&owner),
        )?;
        self.count("release_all");
        for key in answer["resources"].as_array().expect("resources") {
            self.ended(
                key.as_str().expect("a name"),
                self.owner.clone(),
                None,
                span,
            );
        }
        Ok(())
    }

    /// Takes a whole cart; answers the tokens in the asked order if it got it.
    pub fn acquire_many(
        &mut self,
        keys: &[String],
        ttl_ms: i64,
        session: &str,
    ) -> Result<Option<Vec<i64>>, Aborted> {
        let owner = self.owner.clone();
        let resources: Vec<_> = keys.iter().map(|key| Some(key.as_str())).collect();
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_acquire_many($1, $2, $3::bigint * interval '1 ms', $4)",
            &[&keys, &owner, &ttl_ms, &session],
            &resources,
            Some(&owner),
        )?;
        if answer["acquired"] == false {
            self.count("cart refused");
            let conflicts = answer["conflicts"].as_array().expect("conflicts");
            for conflict in conflicts.iter().filter(|c| c["outcome"] == "held") {
                self.refused(&text(conflict, "resource"), conflict, span);
            }
            return Ok(None);
        }
        self.count("cart taken");
        let locks = answer["locks"].as_array().expect("locks");
        let names: Vec<_> = locks.iter().map(|lock| text(lock, "resource")).collect();
        assert_eq!(names, keys, "in the asked order");
        for lock in locks {
            self.taken(&text(lock, "resource"), lock, span, |lock| {
                micros(lock, "expires_at") - ttl_ms * 1000
            });
        }
        Ok(Some(
            locks.iter().map(|l| l["token"].as_i64().unwrap()).collect(),
        ))
    }

    pub fn consume(&mut self, keys: &[String], tokens: Option<&[i64]>) -> Result<(), Aborted> {
        let owner = self.owner.clone();
        let resources: Vec<_> = keys.iter().map(|key| Some(key.as_str())).collect();
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_consume($1, $2, $3)",
            &[&keys, &owner, &tokens],
            &resources,
            Some(&owner),
        )?;
        assert_eq!(answer["consumed_count"], keys.len());
        for key in keys {
            self.ended(key, self.owner.clone(), None, span);
        }
        Ok(())
    }

    /// Sells what is held by one function, where that is kept; it ends the holds, also those of what has been
    /// sold before.
    pub fn sell_there(&mut self, keys: &[String], tokens: Option<&[i64]>) -> Result<(), Aborted> {
        let owner = self.owner.clone();
        let resources: Vec<_> = keys.iter().map(|key| Some(key.as_str())).collect();
        let (sold, span) = self.ask_to_write(
            "SELECT sell($1, $2, $3)",
            &[&keys, &owner, &tokens],
            &resources,
            Some(&owner),
        )?;
        for key in keys {
            self.ended(key, self.owner.clone(), None, span);
        }
        for _ in 0..sold.as_i64().expect("a count") {
            self.count("sold");
        }
        Ok(())
    }

    /// Writes the guarded row of `key`, which works only where nobody else has it.
    pub fn write_guarded(&mut self, key: &str) -> Result<(), Aborted> {
        let act_as = format!("SET LOCAL softlock.owner = '{}'", self.owner);
        self.run(&act_as)?;
        let (_, span) = self.ask(
            "UPDATE guarded SET writes = writes + 1 WHERE key = $1 RETURNING to_jsonb(writes)",
            &[&key],
        )?;
        self.count("guarded write");
        let event = Event::FreeFor {
            resource: key.into(),
            owner: Some(self.owner.clone()),
            span,
            by: "a guarded write",
        };
        self.note(span, event);
        Ok(())
    }

    pub fn look(&mut self, key: &str) -> Result<(), Aborted> {
        let (owner, span) = self.ask(
            "SELECT coalesce(to_jsonb(owner), 'null') FROM softlock_status(ARRAY[$1])",
            &[&key],
        )?;
        self.count("status");
        self.events.push(match owner.as_str() {
            Some(owner) => Event::HeldBy {
                resource: key.into(),
                owner: owner.into(),
                span,
            },
            None => Event::FreeFor {
                resource: key.into(),
                owner: None,
                span,
                by: "softlock_status",
            },
        });
        Ok(())
    }

    pub fn break_lock(&mut self, key: &str) -> Result<(), Aborted> {
        let (answer, span) = self.ask_to_write(
            "SELECT softlock_break($1, 'checker')",
            &[&key],
            &[Some(key)],
            None,
        )?;
        if answer["broken"] == true {
            self.count("broken");
            self.ended(key, text(&answer, "owner"), None, span);
        }
        Ok(())
    }

    pub fn sweep(&mut self, max_rows: i32) -> Result<(), Aborted> {
        let (answer, span) = self.ask("SELECT softlock_sweep($1)", &[&max_rows])?;
        for key in answer["affected"].as_array().expect("affected") {
            self.count("swept");
            self.events.push(Event::FreeFor {
                resource: key.as_str().expect("a name").into(),
                owner: None,
                span,
                by: "a sweep",
            });
        }
        Ok(())
    }

    /// How many of the items have been sold; asked by who has their locks.
    pub fn sold(&mut self, items: &[i32]) -> Result<i64, Aborted> {
        let (count, _) = self.ask(
            "SELECT to_jsonb(count(*)) FROM sold WHERE item = ANY ($1)",
            &[&items],
        )?;
        Ok(count.as_i64().expect("a count"))
    }

    pub fn newest_sold(&mut self) -> Result<i32, Aborted> {
        let (item, _) = self.ask("SELECT to_jsonb(coalesce(max(item), 0)) FROM sold", &[])?;
        Ok(item.as_i64().expect("an item") as i32)
    }

    pub fn sell(&mut self, items: &[i32], tokens: &[i64]) -> Result<(), Aborted> {
        self.ask(
            "WITH s AS (INSERT INTO sold SELECT * FROM unnest($1::int[], $2::bigint[]) RETURNING item)
             SELECT to_jsonb(count(*)) FROM s",
            &[&items, &tokens],
        )?;
        Ok(())
    }
}
