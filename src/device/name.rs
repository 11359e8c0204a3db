//! Names of block devices: in sysfs, in `/dev`, and of the paths below an NVMe multipath head.

/// The name in `/dev` of a device: sysfs writes `!` for `/`.
pub(super) fn node_name(name: &str) -> String {
    name.replace('!', "/")
}

/// `nvme0n1` for `nvme0c3n1`.
pub(super) fn head_of_path(name: &str) -> Option<String> {
    let (subsystem, rest) = name.strip_prefix("nvme")?.split_once('c')?;
    let (controller, namespace) = rest.split_once('n')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(subsystem) && digits(controller) && digits(namespace))
        .then(|| format!("nvme{subsystem}n{namespace}"))
}
