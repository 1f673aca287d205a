//! A verdict.

use crate::verdict::Verdict;

/// A driver of 0x6000 bytes at 0xffff900000010000 that was called after it was unloaded.
pub(crate) fn example() -> Verdict {
    serde_json::from_value(serde_json::json!({
        "schema": "squall.verdict/1", "outcome": "bugcheck", "summary": "bugcheck 0xD1",
        "bugcheck": {"code": 0xD1, "name": "DRIVER_IRQL_NOT_LESS_OR_EQUAL",
            "parameters": ["0xffff900000011120", "0x5", "0x8", "0xffff900000011120"], "access": "execute",
            "module": "squall.sys", "module_state": "unloaded", "offset": "0x1120", "symbol": "squall::isr",
            "source": "driver/src/interrupt.rs:7", "stack": [], "processor": 0, "irql": 5, "verifier": false},
        "findings": [{"kind": "k", "object": "evil\u{1b}[2Jname", "detail": "d", "stricter_than_windows": true}],
        "notes": [], "load_status": null, "missing_imports": [], "hang": null,
        "device": {"bus": "isa", "asserted": 1100, "serviced": 1099, "suppressed": 0, "coalesced": 3,
            "unload": {"asserted": 2, "serviced": 1, "before_silence": 2, "silenced": true}},
        "driver": {"image": "/a/squall.sys", "name": "squall.sys", "defect": "x",
            "base": "0xffff900000010000", "size": 0x6000}, "guest": "testkernel",
        "processors": 2, "verifier": false, "seed": 1, "injection": null, "boot_ms": 100, "run_dir": "/nonexistent"
    }))
    .unwrap()
}
