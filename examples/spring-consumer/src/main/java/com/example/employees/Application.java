// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** Keeps a copy of employees, which another service owns. Start it with the profile {@code sqs} or {@code dlt}. */
@SpringBootApplication
public class Application {

    public static void main(String[] args) {
        SpringApplication.run(Application.class, args);
    }
}
