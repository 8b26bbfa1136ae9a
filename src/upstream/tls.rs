//! TLS to an upstream: whom its certificate must lead to, and the handshake.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with certificates cannot be read.
    #[error("reading the certificates in {path}")]
    File {
        /// The file.
        path: Box<str>,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate that can be used.
    #[error("there is no usable certificate in {path}")]
    Empty {
        /// The file.
        path: Box<str>,
    },
    /// The host is neither a DNS name nor an address.
    #[error("`{host}` cannot be the name in a certificate")]
    Name {
        /// The host.
        host: Box<str>,
        /// Why.
        #[source]
        source: InvalidDnsNameError,
    },
    /// The library refuses its own defaults.
    #[error("setting up TLS")]
    Setup(#[source] rustls::Error),
}

/// How the connections to one upstream are made safe. Its certificate is always verified.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// TLS to `host`, whose certificate leads to one in the PEM file `ca`, or to one that the system trusts. An image
    /// without such a list is served by the one that browsers use.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(host: &str, ca: Option<&Path>) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|source| TlsError::Name { host: host.into(), source })?;
        let roots = match ca {
            Some(path) => from_file(path)?,
            None => trusted(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn from_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let name = || path.display().to_string().into_boxed_str();
    let failed = |source| TlsError::File { path: name(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        roots.add_parsable_certificates([certificate.map_err(failed)?]);
    }
    if roots.is_empty() { Err(TlsError::Empty { path: name() }) } else { Ok(roots) }
}

fn trusted() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, path::Path};

    use super::{Tls, TlsError};

    #[test]
    fn the_lists_of_the_system_or_of_browsers_need_no_file() {
        assert!(Tls::new("api.anthropic.com", None).is_ok());
        assert!(Tls::new("127.0.0.1", None).is_ok());
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "nothing").unwrap();

        let error = Tls::new("x", Some(file.path())).err().unwrap();
        assert!(matches!(error, TlsError::Empty { .. }), "{error}");
        let error = Tls::new("x", Some(Path::new("/no/such/file"))).err().unwrap();
        assert!(error.to_string().contains("/no/such/file"));
        assert!(matches!(Tls::new("not a host", None).err().unwrap(), TlsError::Name { .. }));
    }
}
