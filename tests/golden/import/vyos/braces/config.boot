interfaces {
    ethernet eth0 {
        address "192.0.2.2/24"
        traffic-policy {
            out "WAN-OUT"
        }
    }
}
traffic-policy {
    /* one class for
       each office */
    shaper WAN-OUT {
        bandwidth 10mbit
        class 2 {
            bandwidth 4mbit
            burst 15k
            ceiling 8mbit
            match north {
                ip {
                    source {
                        address 198.51.100.0/26
                    }
                }
            }
        }
        class 3 {
            bandwidth 40%
            match south {
                ip {
                    destination {
                        port 443
                    }
                    protocol tcp
                    source {
                        address 198.51.100.64/26
                    }
                }
                ether {
                    source 02:00:5e:10:00:01
                }
            }
        }
        default {
            bandwidth 1mbit
            ceiling 100%
            queue-type fair-queue
        }
        description "both offices"
    }
    shaper UNUSED {
        bandwidth auto
    }
}
