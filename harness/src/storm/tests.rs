//! Storms on the command line and in scenario files.

use super::*;

#[test]
fn the_default_is_paced_by_acknowledgement() {
    assert_eq!("ack".parse::<Storm>().unwrap(), Storm::default());
    assert_eq!(Storm::default().gap_ns, Some(20_000));
    assert_eq!(toml::from_str::<Storm>("").unwrap().filled_in(), Storm::default());
}

#[test]
fn every_field_is_read_and_written_back() {
    let storm: Storm = "ack,gap=2us,jitter=500ns,count=1000".parse().unwrap();
    assert_eq!(storm, Storm { gap_ns: Some(2_000), jitter_ns: 500, count: 1000, ..Storm::default() });
    assert!(!"none".parse::<Storm>().unwrap().blows());
    for text in [
        "ack,gap=2us,jitter=500ns,count=1000",
        "ack,gap=10us,train=50",
        "period,every=100us,burst=5,burst-gap=4us,jitter=1us",
        "access,read=status,delay=5us",
        "access,write=FIFO_LEVEL:7",
        "ack+access,write=CONTROL:0/1,delay=2us,count=1+period,every=1ms",
        "none",
    ] {
        let storm: Storm = text.parse().unwrap();
        assert_eq!(storm.to_string().parse::<Storm>().unwrap(), storm, "{text}");
        let toml = toml::to_string_pretty(&storm).unwrap();
        assert_eq!(toml::from_str::<Storm>(&toml).unwrap().filled_in(), storm, "{toml}");
    }
}

#[test]
fn one_more_after_disable_blows_beside_the_usual_storm() {
    let storm: Storm = "ack,gap=5us+access,write=CONTROL:0/0x1,delay=2us,count=1".parse().unwrap();
    let each: Vec<Storm> = storm.each().collect();
    assert_eq!(each[0], Storm { gap_ns: Some(5_000), ..Storm::default() });
    let Storm { register, access, value, mask, delay_ns, count, .. } = each[1];
    assert_eq!((register, access), (Some(Register::Control), Some(Access::Write)));
    assert_eq!((value, mask, delay_ns, count), (Some(0), Some(1), Some(2_000), 1));
    assert_eq!(Storm::none().each().count(), 0);
}

#[test]
fn what_is_not_understood_is_refused_with_the_reason() {
    for (text, part) in [
        ("", "pace"),
        ("gale", "gale"),
        ("ack,gap", "gap"),
        ("ack,gap=20", "20"),
        ("ack,gap=-1us", "-1us"),
        ("ack,gap=2s", "gap_ns is 2000000000; it must be from 0 to 1000000000"),
        ("ack,jitter=99999999999999999999ns", "jitter"),
        ("ack,speed=1us", "speed"),
        ("ack,count=x", "count=x"),
        ("ack,burst=0", "burst is 0; it must be from 1 to 1000"),
        ("ack,every=1ms", "period_ns does not go with the pace ack"),
        ("period", "the pace period needs period_ns"),
        ("period,every=1ns", "period_ns is 1; it must be from 1000"),
        ("period,every=1us,jitter=1us", "takes 1000 ns"),
        ("access,delay=1us", "the pace access needs register"),
        ("access,write=CONTROLS", "write=CONTROLS"),
        ("access,write=CONTROL:x", "write=CONTROL:x"),
        ("access,write=CONTROL:0x", "write=CONTROL:0x"),
        ("access,write=CONTROL:2/1", "value 0x2 has bits that the mask 0x1"),
        ("ack+none", "none of them with the pace none"),
        ("none+ack", "none of them with the pace none"),
        ("ack+ack+ack+ack+ack", "at most 4"),
        ("ack+gale", "gale"),
    ] {
        let error = text.parse::<Storm>().unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{text:?} gave {error:?}");
    }
}
