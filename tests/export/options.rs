//! What a client and the server agree on before the first request, option by option.

use super::image::{SIZE, Stage};
use super::server::Served;
use super::wire::{ACK, Client, REFUSED, Style, text, u32_at};

#[test]
fn options_that_are_wrong_are_refused_and_the_next_one_is_heard() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    let mut client = Client::connect(&served);
    let go = [&text(b"vda")[..], &[0, 0]].concat();
    let lie = [&1000_u32.to_be_bytes()[..], b"vda"].concat();
    let many = [&text(b"vda")[..], &u32::MAX.to_be_bytes()].concat();
    for (option, data, answer) in [
        (5, vec![], 1),
        (99, vec![1; 500], 1),
        (3, vec![1], 3),
        (6, vec![], 3),
        (6, lie.clone(), 3),
        (7, text(b"vda"), 3),
        (7, [&go[..], &[0]].concat(), 3),
        (7, [&text(b"nosuch")[..], &[0, 0]].concat(), 6),
        (8, vec![0], 3),
        // Before structured replies.
        (10, [&text(b"vda")[..], &[0; 4]].concat(), 3),
    ] {
        let replies = client.ask(option, &data);
        assert_eq!(
            replies.last().unwrap().0,
            REFUSED | answer,
            "{option}: {replies:?}"
        );
    }
    client.style = Style::Structured;
    assert_eq!(client.ask(8, b"").last().unwrap().0, ACK);
    for (option, data, answer) in [
        (10, vec![], REFUSED | 3),
        (10, lie, REFUSED | 3),
        (10, many, REFUSED | 3),
        (9, [&text(b"")[..], &[0; 4]].concat(), ACK),
    ] {
        let replies = client.ask(option, &data);
        assert_eq!(replies.last().unwrap().0, answer, "{option}: {replies:?}");
    }
    // Nothing is chosen by a list; what is chosen has a number.
    let query = [&text(b"vda")[..], &[0, 0, 0, 1], &text(b"base:allocation")].concat();
    for (option, number) in [(9, 0), (10, 1)] {
        let replies = client.ask(option, &query);
        assert_eq!(u32_at(&replies[0].1, 0), number, "{option}");
    }
    assert_eq!(client.ask(3, b"").len(), 2);
    assert_eq!(client.ask(7, &go).last().unwrap().0, ACK);
    assert!(client.read(0, 0, 512).unwrap() == stage.truth[..512]);
}

#[test]
fn who_knows_only_the_first_way_of_agreeing_is_served() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    let mut client = Client::greeted(&served.socket(), 0);
    client.option(1, b"vda");
    let reply = client.take(10 + 124);
    assert_eq!(reply[..8], SIZE.to_be_bytes());
    assert!(reply[10..].iter().all(|byte| *byte == 0));
    assert!(client.read(0, 1000, 5000).unwrap() == stage.truth[1000..6000]);
    // What this server never said is refused.
    assert!(Client::greeted(&served.socket(), 1 << 5).is_over());
}
