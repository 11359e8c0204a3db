//! The arguments of `serve`.

use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint serve latest --listen unix:/run/disk.sock --disk vda\n  \
    qemu-img convert -O qcow2 'nbd+unix:///vda?socket=/run/disk.sock' vda.qcow2\n  \
    nbdcopy 'nbd+unix:///vda?socket=/run/disk.sock' /dev/vdb\n  \
    stillpoint serve latest --listen unix:/run/disk.sock --disk vda \
    --overlay /var/tmp/vda.overlay\n  \
    stillpoint serve latest --listen 0.0.0.0:10809 --tls-certificates /etc/stillpoint/tls\n  \
    systemd-run --unit stillpoint-serve -p SuccessExitStatus=143 \
    -E STILLPOINT_VAULT=/backup/vault stillpoint serve latest --listen unix:/run/disk.sock\n\n\
    Nothing is restored: what a client reads is fetched from the vault and checked. It serves \
    until Ctrl-C or SIGTERM; where nobody watches, as under a cloud's assistant, start it by \
    systemd-run as above, and end it by systemctl stop. Its first line says how to connect; \
    with --json that is one document, printed when it listens. Only its owner can connect to a \
    unix socket. Every process of this host can connect to a port of the loopback, and read the \
    whole disk. With --overlay clients may write, as a machine does that boots from it; what they \
    have flushed is there when the same command runs again. With --tls-certificates DIR other \
    machines may connect, too: nbdinfo 'nbds://THISHOST:10809/vda?tls-certificates=THEIRDIR', \
    where THEIRDIR has ca-cert.pem, client-cert.pem and client-key.pem. While a snapshot is \
    served nothing may delete it: stillpoint keep ID --hold serve"
)]
pub struct ServeArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
    /// Where clients connect: unix:PATH, 127.0.0.1:PORT (port 0: any that is free), or, with
    /// --tls-certificates, another ADDRESS:PORT of this host, 0.0.0.0 for all of them
    #[arg(long, value_name = "ADDRESS")]
    pub listen: String,
    /// Serve this disk alone [default: all disks, each by its name; the first one without a name]
    #[arg(long)]
    pub disk: Option<String>,
    /// Let clients write: what they write goes to this file, which is made, and never to the vault
    #[arg(long, value_name = "FILE")]
    pub overlay: Option<PathBuf>,
    /// Serve by TLS alone, and only who shows a certificate of the CA: a folder with ca-cert.pem,
    /// server-cert.pem and server-key.pem, and ca-crl.pem if there is one
    #[arg(long, value_name = "DIR")]
    pub tls_certificates: Option<PathBuf>,
}
