//! Encodes adoptions, the requests that take a lock from its previous owner.

use std::sync::LazyLock;

use super::super::resp_encode::{digits, millis, put_length, put_word, put_words};
use super::{HIGH_KEY, MARKER_KEY, PreparedScript, RequestEncoder, ScriptForm, put_script_call};
use quorlock_proto::fence::Fence;
use quorlock_proto::request::{PreviousOwner, Request};

impl RequestEncoder {
    /// Encodes an adoption. It is rare, so nodes need not keep its script loaded.
    pub(super) fn encode_adopt(&mut self, request: &Request, previous_owner: &PreviousOwner) {
        let (key, previous_token, ttl) =
            (request.key.as_bytes(), previous_owner.token.digits(), millis(request.ttl));
        let Some(Fence::Hint { hint, min_fencing_number }) = request.fence else {
            let words = [key, &self.token.1, ttl.digits(), &previous_token];
            return put_script_call(&mut self.bytes, &ADOPT, ScriptForm::Source, &words);
        };
        self.set_fence_key(&request.key);
        // The word count includes the three marker arguments.
        put_length(&mut self.bytes, b'*', 17);
        ADOPT_FENCED.put_prefix(&mut self.bytes, ScriptForm::Source);
        let keys = [key, &self.fence_key, MARKER_KEY.as_bytes(), HIGH_KEY.as_bytes()];
        put_words(&mut self.bytes, &keys);
        put_words(&mut self.bytes, &[&self.token.1, ttl.digits()]);
        for number in [self.retention_millis, hint, min_fencing_number] {
            put_word(&mut self.bytes, digits(number).digits());
        }
        put_word(&mut self.bytes, &previous_token);
        put_word(&mut self.bytes, digits(previous_owner.fencing_number.unwrap_or(0)).digits());
    }
}

static ADOPT: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(include_str!("../lua/adopt.lua"), b"1"));
static ADOPT_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(include_str!("../lua/adopt_fenced.lua"), b"4"));
