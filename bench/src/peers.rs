//! What the field uses instead, where it is installed: nginx forwarding, and nginx with Lua and one atomic Redis script that
//! refuses a request id it has seen and decrements a balance. Redis runs without persistence: its charges survive nothing.

use crate::error::BenchError;
use crate::gateway::CUSTOMERS;
use crate::load::customer_id;
use crate::process::{Process, free_address};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MODULES: &str = "/usr/lib/nginx/modules";
const SCRIPT: &str = "if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', 86400) then return -1 end \
                      local left = redis.call('DECR', KEYS[1]) \
                      if left < 0 then redis.call('INCR', KEYS[1]) redis.call('DEL', KEYS[2]) return -2 end \
                      return left";

/// The started peers; they end when dropped.
pub(crate) struct Peers {
    pub(crate) nginx: SocketAddr,
    /// nginx with Lua and Redis.
    pub(crate) redis: Option<SocketAddr>,
    _processes: Vec<Process>,
}

/// Starts what is installed, or says in one line what is not.
pub(crate) async fn start(backend: SocketAddr, work: &Path) -> Result<Option<Peers>, BenchError> {
    if !is_installed("nginx", "-v") {
        println!("peers: nginx is not installed, left out");
        return Ok(None);
    }
    let has_lua = ["ndk_http_module.so", "ngx_http_lua_module.so"].iter().all(|module| Path::new(MODULES).join(module).exists());
    let mut processes = Vec::new();
    let mut metered = None;
    if has_lua && is_installed("redis-server", "--version") {
        let redis = free_address()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &redis.port().to_string()]);
        command.current_dir(work);
        processes.push(Process::listening("redis", command, redis, work)?);
        metered = Some((redis, fund(redis).await?, free_address()?));
    } else {
        println!("peers: nginx's Lua module or Redis is not installed, left out");
    }
    let nginx = free_address()?;
    let configuration = work.join("nginx.conf");
    std::fs::write(&configuration, nginx_conf(backend, nginx, metered.as_ref(), work))
        .map_err(|error| BenchError::Io("nginx's config", error))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(work).arg("-c").arg(&configuration);
    processes.push(Process::listening("nginx", command, nginx, work)?);
    Ok(Some(Peers { nginx, redis: metered.map(|(_, _, address)| address), _processes: processes }))
}

/// Whether Spin is installed and new enough to run the component.
pub(crate) fn spin_is_usable() -> bool {
    let said = Command::new("spin").arg("--version").output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let said = said.unwrap_or_default();
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(4), Some(1))
}

fn is_installed(program: &str, version_flag: &str) -> bool {
    let status = Command::new(program).arg(version_flag).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Fills the balances and returns the digest of the loaded script.
async fn fund(redis: SocketAddr) -> Result<String, BenchError> {
    let io = |error| BenchError::Io("talking to Redis", error);
    let mut stream = TcpStream::connect(redis).await.map_err(io)?;
    for n in 0..CUSTOMERS {
        ask(&mut stream, &["SET", &format!("balance:{}", customer_id(n)), "1000000000"]).await.map_err(io)?;
    }
    let reply = ask(&mut stream, &["SCRIPT", "LOAD", SCRIPT]).await.map_err(io)?;
    let digest = reply.lines().nth(1).filter(|line| line.len() == 40);
    digest.map(str::to_owned).ok_or_else(|| BenchError::WrongReply { name: "redis".into(), what: reply.clone() })
}

/// One command whose reply fits one packet.
async fn ask(stream: &mut TcpStream, words: &[&str]) -> std::io::Result<String> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(bytes.as_bytes()).await?;
    let mut reply = [0; 512];
    let length = stream.read(&mut reply).await?;
    Ok(String::from_utf8_lossy(reply.get(..length).unwrap_or_default()).into_owned())
}

fn nginx_conf(backend: SocketAddr, plain: SocketAddr, metered: Option<&(SocketAddr, String, SocketAddr)>, work: &Path) -> String {
    let modules = PathBuf::from(MODULES);
    let mut load = String::new();
    let mut server = String::new();
    if let Some((redis, digest, address)) = metered {
        load = format!("load_module {0}/ndk_http_module.so;\nload_module {0}/ngx_http_lua_module.so;\n", modules.display());
        let lua = LUA.replace("PORT", &redis.port().to_string()).replace("DIGEST", digest);
        server = format!("server {{ listen {address}; location / {{ access_by_lua_block {{ {lua} }} {PROXY} }} }}\n");
    }
    // As root, the workers would otherwise be another user, who cannot enter the work directory.
    format!(
        "{load}daemon off;\nuser root;\nworker_processes auto;\npid {0}/nginx.pid;\nerror_log {0}/nginx-error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\nkeepalive_requests 100000000;\n\
         client_body_temp_path {0}/nginx-body;\nproxy_temp_path {0}/nginx-proxy;\nfastcgi_temp_path {0}/nginx-fastcgi;\n\
         uwsgi_temp_path {0}/nginx-uwsgi;\nscgi_temp_path {0}/nginx-scgi;\n\
         upstream backend {{ server {backend}; keepalive 64; keepalive_requests 100000000; }}\n\
         server {{ listen {plain}; location / {{ {PROXY} }} }}\n{server}}}\n",
        work.display()
    )
}

const PROXY: &str = "proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";";

const LUA: &str = r#"
local redis = ngx.socket.tcp()
redis:settimeouts(1000, 1000, 1000)
if not redis:connect("127.0.0.1", PORT) then return ngx.exit(503) end
local function word(text) return "$" .. #text .. "\r\n" .. text .. "\r\n" end
local customer, id = ngx.var.http_x_customer_id, ngx.var.http_x_request_id
redis:send("*5\r\n" .. word("EVALSHA") .. word("DIGEST") .. word("2")
  .. word("balance:" .. customer) .. word("call:" .. customer .. ":" .. id))
local line = redis:receive("*l")
redis:setkeepalive(10000, 64)
local left = line and line:sub(1, 1) == ":" and tonumber(line:sub(2))
if not left then return ngx.exit(503) end
if left == -1 then return ngx.exit(409) end
if left == -2 then return ngx.exit(402) end
"#;
