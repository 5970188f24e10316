// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** Keeps a copy of employees, which another service owns. With the profile {@code sqs} failures go to SQS, else to Kafka. */
@SpringBootApplication
public class Application {

    public static void main(String[] args) {
        System.setProperty("h2.bindAddress", "127.0.0.1");  // the shared database file is not for the whole network
        SpringApplication.run(Application.class, args);
    }
}
