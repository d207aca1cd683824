//! Frames and greetings of the bus: any bytes are a head, too few, or an error; no head promises more than its lane allows; what is taken is
//! written again as the same bytes.

use larder::cluster::bus::wire::{HEAD_LEN, Head, Hello, Lane};

/// See the module's page.
pub fn check(data: &[u8]) {
    for lane in [Lane::Urgent, Lane::Bulk] {
        let mut rest = data;
        // As many as there are, one behind the other, as on a connection.
        while let Ok(head) = Head::read(rest, lane) {
            let Some(head) = head else {
                assert!(rest.len() < HEAD_LEN, "a head is complete");
                break;
            };
            assert!(head.length <= lane.body_max());
            assert_eq!(head.to_bytes(), rest[..HEAD_LEN]);
            let Some(next) = rest.get(HEAD_LEN + head.length..) else { break };
            rest = next;
        }
    }
    if let Ok(hello) = Hello::read(data) {
        assert_eq!(Hello::read(&hello.to_bytes()), Ok(hello));
    }
}
