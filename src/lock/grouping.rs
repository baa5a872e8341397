//! Groups nodes with the same text, for one-line messages.

use crate::driver::NodeStatus;

/// Lists each text once with its nodes, in the order of the list.
pub(super) fn grouped<'a>(nodes: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (node, words) in nodes {
        match groups.iter_mut().find(|(_, other)| *other == words) {
            Some((nodes, _)) => nodes.push(node),
            None => groups.push((vec![node], words)),
        }
    }
    if let [(nodes, words)] = &groups[..]
        && nodes.len() > 1
    {
        return format!("all {} nodes: {words}", nodes.len());
    }
    let one = |(nodes, words): (Vec<&str>, String)| format!("{}: {words}", nodes.join(", "));
    groups.into_iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Describes the state of each node.
pub(super) fn describe_states(nodes: &[NodeStatus]) -> String {
    let words = |node: &NodeStatus| {
        let text = node.to_string();
        text.strip_prefix(&node.address).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text).to_owned()
    };
    grouped(nodes.iter().map(|node| (node.address.as_str(), words(node))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_listed_once() {
        let of = |words: &[(&'static str, &str)]| {
            grouped(words.iter().map(|(node, words)| (*node, (*words).to_owned())))
        };
        assert_eq!(of(&[("a", "x"), ("b", "x")]), "all 2 nodes: x");
        assert_eq!(of(&[("a", "x")]), "a: x");
        assert_eq!(of(&[("a", "x"), ("b", "y"), ("c", "x")]), "a, c: x; b: y");
        assert_eq!(of(&[]), "");
    }
}
