//! The protected resource: a PostgreSQL table, and the UPDATE that checks the fencing token.

use std::env;
use std::str::FromStr;

use quorlock::FencingToken;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::Outcome;

/// A connection to the database.
pub(crate) struct Bank {
    client: Client,
}

/// The current state of an account.
pub(crate) struct Account {
    pub(crate) balance: i64,
    /// The fencing number of the last accepted write.
    pub(crate) fence: i64,
}

/// The rule by which an account accepts writes. There is one account for each rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Accepts every write.
    Open,
    /// Accepts a write with a larger fencing number, or with number and nonce of the last accepted write.
    Fenced,
}

impl Bank {
    pub(crate) async fn connect() -> Outcome<Self> {
        let database =
            env::var(DATABASE).map_err(|_| format!("{DATABASE} is not set: see scripts/postgres"))?;
        let (client, connection) = tokio_postgres::connect(&database, NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("the connection to PostgreSQL broke: {error}");
            }
        });
        Ok(Self { client })
    }

    /// Creates the table and one account for each rule.
    pub(crate) async fn open(&self, balance: i64) -> Outcome<()> {
        self.client.batch_execute(TABLE).await?;
        for rule in [Rule::Open, Rule::Fenced] {
            let insert = "INSERT INTO account (id, balance) VALUES ($1, $2)";
            self.client.execute(insert, &[&rule.id(), &balance]).await?;
        }
        Ok(())
    }

    pub(crate) async fn account(&self, rule: Rule) -> Outcome<Account> {
        let select = "SELECT balance, fence FROM account WHERE id = $1";
        let row = self.client.query_one(select, &[&rule.id()]).await?;
        Ok(Account { balance: row.get(0), fence: row.get(1) })
    }

    /// Writes the balance. Returns whether the table accepted it.
    pub(crate) async fn write(&self, rule: Rule, balance: i64, token: FencingToken) -> Outcome<bool> {
        // Numbers are below 2^53. A nonce has 128 bits, as many as a uuid.
        let (number, nonce) = (i64::try_from(token.number)?, Uuid::from_u128(token.nonce));
        let rows = self.client.execute(rule.update(), &[&balance, &number, &nonce, &rule.id()]).await?;
        Ok(rows == 1)
    }
}

impl Rule {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Fenced => "fenced",
        }
    }

    fn id(self) -> i64 {
        self as i64
    }

    fn update(self) -> &'static str {
        match self {
            Self::Open => "UPDATE account SET balance = $1, fence = $2, nonce = $3 WHERE id = $4",
            Self::Fenced => {
                "UPDATE account SET balance = $1, fence = $2, nonce = $3
                  WHERE id = $4 AND (fence < $2 OR (fence = $2 AND nonce = $3))"
            }
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = [Self::Open, Self::Fenced].into_iter().find(|rule| rule.name() == name);
        found.ok_or_else(|| format!("no rule is called {name:?}"))
    }
}

/// The environment variable with the connection string, as in libpq: `host=... user=... dbname=...`, or a
/// URL.
const DATABASE: &str = "FENCE_DATABASE";

const TABLE: &str = "
    CREATE TABLE account (
        id bigint PRIMARY KEY,
        balance bigint NOT NULL,
        fence bigint NOT NULL DEFAULT 0,
        nonce uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
    )";
