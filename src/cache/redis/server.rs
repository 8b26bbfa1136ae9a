//! Where Redis is and how it is reached: one server, the one that Sentinels name, or the nodes of a cluster.

use std::{fs, time::Duration};

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisFuture, RedisResult,
    TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use tokio::{sync::mpsc::Sender, time::timeout};

use crate::config::{self, RedisMode, RedisNode};

/// Finding the server or the nodes takes more than one connection.
const DISCOVERY: u32 = 20;

/// How Redis is reached.
pub(super) struct Server {
    settings: config::Redis,
    certificates: Option<TlsCertificates>,
    /// Where the server is that the Sentinels named last.
    current: Mutex<Option<ConnectionAddr>>,
}

/// A connection that many operations share at once. A clone is another handle to it.
#[derive(Clone)]
pub(super) enum Conn {
    /// To one server.
    One(MultiplexedConnection),
    /// To the nodes of a cluster.
    Many(ClusterConnection),
}

/// Why Redis is not reached.
pub(super) enum Unreached {
    Late,
    Refused(RedisError),
}

impl Server {
    /// Reads the certificates.
    ///
    /// # Errors
    /// When one of the files cannot be read.
    pub(super) fn new(settings: &config::Redis) -> std::io::Result<Self> {
        let read = |path: &Option<String>| path.as_ref().map(fs::read).transpose();
        let client_tls = read(&settings.cert)?
            .zip(read(&settings.key)?)
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let root_cert = read(&settings.ca)?;
        let certificates = (client_tls.is_some() || root_cert.is_some())
            .then_some(TlsCertificates { client_tls, root_cert });
        Ok(Self { settings: settings.clone(), certificates, current: Mutex::default() })
    }

    /// Connects so many times to the same server; what it pushes over the last of them goes to `pushes`.
    pub(super) async fn connect(
        &self,
        count: usize,
        pushes: Sender<PushInfo>,
    ) -> Result<Vec<Conn>, Unreached> {
        let patience = match self.settings.mode {
            RedisMode::Standalone => self.settings.connect * 2,
            RedisMode::Sentinel | RedisMode::Cluster => self.settings.connect * DISCOVERY,
        };
        // Once found, one connection takes as long as another; the first tells whether there is anybody at all.
        let all = async {
            let client = match self.settings.mode {
                RedisMode::Standalone => Some(self.client(self.address(0)?)?),
                RedisMode::Sentinel => {
                    let client = self.find_primary().await?;
                    *self.current.lock() = Some(client.get_connection_info().addr().clone());
                    Some(client)
                }
                RedisMode::Cluster => None,
            };
            let mut connections = Vec::with_capacity(count + 1);
            for index in 0..=count {
                let pushes = (index == count).then(|| pushes.clone());
                connections.push(match &client {
                    Some(client) => Conn::One(self.to_one(client, pushes).await?),
                    None => Conn::Many(self.to_cluster(pushes).await?),
                });
            }
            Ok(connections)
        };
        match timeout(patience * u32::try_from(count + 1).unwrap_or(u32::MAX), all).await {
            Ok(Ok(connections)) => Ok(connections),
            Ok(Err(error)) => Err(Unreached::Refused(error)),
            Err(_) => Err(Unreached::Late),
        }
    }

    async fn to_one(
        &self,
        client: &Client,
        pushes: Option<Sender<PushInfo>>,
    ) -> RedisResult<MultiplexedConnection> {
        // Each operation has a deadline of its own, so the connection has none.
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect))
            .set_response_timeout(None);
        if let Some(pushes) = pushes {
            config = config.set_push_sender(move |push| pushes.try_send(push));
        }
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn to_cluster(&self, pushes: Option<Sender<PushInfo>>) -> RedisResult<ClusterConnection> {
        let nodes = (0..self.settings.url.nodes().len()).map(|at| self.info(self.address(at)?));
        let mut builder = ClusterClient::builder(nodes.collect::<RedisResult<Vec<_>>>()?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.settings.connect)
            .retries(2)
            .min_retry_wait(5)
            .max_retry_wait(50);
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        if let Some(pushes) = pushes {
            builder = builder.push_sender(move |push| pushes.try_send(push));
        }
        builder.build()?.get_async_connection().await
    }

    /// Asks the Sentinels for the server that takes writes now.
    async fn find_primary(&self) -> RedisResult<Client> {
        let sentinels = (0..self.settings.url.nodes().len()).map(|at| self.address(at));
        let mut builder = SentinelClientBuilder::new(
            sentinels.collect::<RedisResult<Vec<_>>>()?,
            &self.settings.master,
            SentinelServerType::Master,
        )?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(i64::from(self.settings.url.db()));
        if let Some(username) = self.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = self.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &self.settings.sentinel_username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &self.settings.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        if self.settings.url.is_tls() {
            builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
            if let Some(certificates) = &self.certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
        }
        builder.build()?.async_get_client().await
    }

    fn client(&self, address: ConnectionAddr) -> RedisResult<Client> {
        let info = self.info(address)?;
        match self.certificates.clone().filter(|_| self.settings.url.is_tls()) {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    fn info(&self, address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
        let mut login = RedisConnectionInfo::default()
            .set_db(i64::from(self.settings.url.db()))
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("touchline", env!("CARGO_PKG_VERSION"));
        if let Some(username) = self.username() {
            login = login.set_username(username);
        }
        if let Some(password) = self.password() {
            login = login.set_password(password);
        }
        Ok(address.into_connection_info()?.set_redis_settings(login))
    }

    fn address(&self, at: usize) -> RedisResult<ConnectionAddr> {
        let url = &self.settings.url;
        Ok(match url.nodes().get(at) {
            Some(RedisNode::Tcp { host, port }) => {
                let port = RedisNode::port_for(*port, self.settings.mode);
                if url.is_tls() {
                    ConnectionAddr::TcpTls { host: host.clone(), port, insecure: false, tls_params: None }
                } else {
                    ConnectionAddr::Tcp(host.clone(), port)
                }
            }
            Some(RedisNode::Unix(path)) => ConnectionAddr::Unix(path.clone()),
            None => return Err((redis::ErrorKind::InvalidClientConfig, "there is no address").into()),
        })
    }

    fn username(&self) -> Option<&str> {
        self.settings.username.as_deref().or_else(|| self.settings.url.username())
    }

    fn password(&self) -> Option<&str> {
        let own = self.settings.password.as_ref().map(config::Secret::expose);
        own.or_else(|| self.settings.url.password())
    }

    /// Whether the server that takes writes may become another one behind our back.
    pub(super) fn can_move(&self) -> bool {
        self.settings.mode == RedisMode::Sentinel
    }

    /// Whether the Sentinels name another server than the one that was connected to. Without an answer it stays as it is.
    pub(super) async fn has_moved(&self) -> bool {
        // Whoever asks reads no purges meanwhile.
        let found = timeout(self.settings.connect * 4, self.find_primary()).await;
        let Ok(Ok(client)) = found else { return false };
        let current = self.current.lock();
        current.as_ref().is_some_and(|current| current != client.get_connection_info().addr())
    }

    /// How long an operation that no request waits for may take.
    pub(super) fn patience(&self) -> Duration {
        self.settings.operation * 10
    }
}

impl Conn {
    /// Has messages of a channel pushed to us.
    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::One(connection) => connection.subscribe(channel).await,
            Self::Many(connection) => connection.subscribe(channel).await,
        }
    }
}

impl ConnectionLike for Conn {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Many(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Many(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Many(connection) => connection.get_db(),
        }
    }
}
