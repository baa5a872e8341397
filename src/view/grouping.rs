//! Groups nodes with the same text, for one-line messages.

use super::node_status::NodeStatus;

/// Lists each text once with its nodes, in the order of the list.
pub(crate) fn grouped<'a>(nodes: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (node, text) in nodes {
        match groups.iter_mut().find(|(_, other)| *other == text) {
            Some((nodes, _)) => nodes.push(node),
            None => groups.push((vec![node], text)),
        }
    }
    if let [(nodes, text)] = &groups[..]
        && nodes.len() > 1
    {
        return format!("all {} nodes: {text}", nodes.len());
    }
    let line = |(nodes, text): (Vec<&str>, String)| format!("{}: {text}", nodes.join(", "));
    groups.into_iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Describes the state of each node.
pub(crate) fn describe_states(nodes: &[NodeStatus]) -> String {
    let text = |node: &NodeStatus| {
        let text = node.to_string();
        text.strip_prefix(&*node.address).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text).to_owned()
    };
    grouped(nodes.iter().map(|node| (&*node.address, text(node))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_listed_once() {
        let group = |texts: &[(&'static str, &str)]| {
            grouped(texts.iter().map(|(node, text)| (*node, (*text).to_owned())))
        };
        assert_eq!(group(&[("a", "x"), ("b", "x")]), "all 2 nodes: x");
        assert_eq!(group(&[("a", "x")]), "a: x");
        assert_eq!(group(&[("a", "x"), ("b", "y"), ("c", "x")]), "a, c: x; b: y");
        assert_eq!(group(&[]), "");
    }
}
