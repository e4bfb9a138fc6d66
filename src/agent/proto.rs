//! Protocols as generated code: the CRI, the few services of containerd that go beyond it, and the health check of gRPC servers.

#![allow(clippy::all, clippy::disallowed_methods)]

pub mod cri {
    tonic::include_proto!("runtime.v1");
}

pub mod grpc_health {
    tonic::include_proto!("grpc.health.v1");
}

pub mod containerd {
    pub mod types {
        tonic::include_proto!("containerd.types");
    }
    pub mod services {
        pub mod content {
            pub mod v1 {
                tonic::include_proto!("containerd.services.content.v1");
            }
        }
        pub mod events {
            pub mod v1 {
                tonic::include_proto!("containerd.services.events.v1");
            }
        }
        pub mod images {
            pub mod v1 {
                tonic::include_proto!("containerd.services.images.v1");
            }
        }
        pub mod leases {
            pub mod v1 {
                tonic::include_proto!("containerd.services.leases.v1");
            }
        }
        pub mod namespaces {
            pub mod v1 {
                tonic::include_proto!("containerd.services.namespaces.v1");
            }
        }
    }
}
