//! TLS of links: the record layer against rustls and against records made by hand, handshakes with
//! every kind of certificate that is refused, and the files of an identity.

mod acceptor; // the table of handshakes
mod authority; // certificates for tests
mod by_hand; // records of every content
mod handshakes; // handshakes of the library's two ends
mod identities; // files of an identity
mod peers; // connections of rustls alone, and handshakes step by step
mod records; // the record layer against rustls
mod refusals; // certificates and peers that are refused
